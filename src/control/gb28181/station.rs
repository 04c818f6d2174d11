//! The platform and the cascade as one: what comes goes to whichever it is for, and each hears what it wants of the other.
//!
//! Both use one SIP port. The cascade says which messages are its own; everything else is the platform's. Calls and questions of the cascade
//! have the highest bit of their number set, so that the two never meet. Not here: what either does.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::host::Brain;
use crate::media::Stamp;
use crate::protocol::gb28181::cascade::{self, Cascade, Ids};
use crate::protocol::gb28181::platform::ask::{Answer, Ask};
use crate::protocol::gb28181::platform::{CallId, Clock, Input, Output, Ticket};

const OF_CASCADE: u64 = 1 << 63;

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved<S> {
    #[serde(flatten)]
    pub platform: S,
    /// The ids that streams have as channels.
    pub channels: Ids,
}

pub struct Station<P: Brain> {
    platform: P,
    cascade: Cascade,
}

impl<P: Brain> Station<P> {
    pub fn new(platform: P, cascade: Cascade) -> Self {
        Station { platform, cascade }
    }

    fn tell_platform(&mut self, clock: Clock, input: Input<'_>, todo: &mut VecDeque<cascade::Output>) {
        let mut out = Vec::new();
        self.platform.handle(clock, input, &mut out);
        todo.extend(out.into_iter().map(cascade::Output::Wish));
    }

    fn tell_cascade(&mut self, clock: Clock, input: cascade::Input<'_>, todo: &mut VecDeque<cascade::Output>) {
        let mut out = Vec::new();
        self.cascade.handle(clock, input, &mut out);
        let mark = |output| match output {
            cascade::Output::Wish(Output::OpenSender { call, request }) => {
                cascade::Output::Wish(Output::OpenSender { call: CallId(call.0 | OF_CASCADE), request })
            }
            cascade::Output::Wish(Output::CloseSender(call)) => {
                cascade::Output::Wish(Output::CloseSender(CallId(call.0 | OF_CASCADE)))
            }
            cascade::Output::Ask { ticket, ask } => cascade::Output::Ask { ticket: Ticket(ticket.0 | OF_CASCADE), ask },
            other => other,
        };
        todo.extend(out.into_iter().map(mark));
    }
}

/// The number that the cascade knows. `None`: it is the platform's.
fn of_cascade(call: CallId) -> Option<CallId> {
    (call.0 & OF_CASCADE != 0).then_some(CallId(call.0 & !OF_CASCADE))
}

impl<P: Brain> Brain for Station<P> {
    type Saved = Saved<P::Saved>;

    fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>) {
        let mut todo = VecDeque::new();
        let is_due = |due: Option<Stamp>| due.is_some_and(|due| clock.now >= due);
        match input {
            Input::Message { hop, bytes } if self.cascade.is_for(hop, bytes) => {
                self.tell_cascade(clock, cascade::Input::Message { hop, bytes }, &mut todo);
            }
            Input::Message { hop, bytes } => {
                self.tell_platform(clock, Input::Message { hop, bytes }, &mut todo);
            }
            Input::Closed(connection) => {
                if self.cascade.has_connection(connection) {
                    self.tell_cascade(clock, cascade::Input::Closed(connection), &mut todo);
                }
                // The platform above may have come as a device on it.
                self.tell_platform(clock, Input::Closed(connection), &mut todo);
            }
            Input::Timeout => {
                if is_due(self.platform.next_timeout()) {
                    self.tell_platform(clock, Input::Timeout, &mut todo);
                }
                if is_due(self.cascade.next_timeout()) {
                    self.tell_cascade(clock, cascade::Input::Timeout, &mut todo);
                }
            }
            Input::Reached { to, hop } => self.tell_cascade(clock, cascade::Input::Reached { to, hop }, &mut todo),
            Input::Streams(keys) => self.tell_cascade(clock, cascade::Input::Streams(keys), &mut todo),
            Input::SenderOpened { call, port } => match of_cascade(call) {
                Some(call) => self.tell_cascade(clock, cascade::Input::SenderOpened { call, port }, &mut todo),
                None => self.tell_platform(clock, Input::SenderOpened { call, port }, &mut todo),
            },
            Input::Sending { call, sending } => match of_cascade(call) {
                Some(call) => self.tell_cascade(clock, cascade::Input::Sending { call, sending }, &mut todo),
                None => self.tell_platform(clock, Input::Sending { call, sending }, &mut todo),
            },
            Input::Finishing => {
                self.tell_cascade(clock, cascade::Input::Finishing, &mut todo);
                self.tell_platform(clock, Input::Finishing, &mut todo);
            }
            Input::Ask { ticket, ask: Ask::Upstreams } => {
                out.push(Output::Answer { ticket, answer: Answer::Upstreams(self.cascade.views(clock.now)) });
            }
            other => self.tell_platform(clock, other, &mut todo),
        }
        while let Some(output) = todo.pop_front() {
            match output {
                cascade::Output::Ask { ticket, ask } => self.tell_platform(clock, Input::Ask { ticket, ask }, &mut todo),
                cascade::Output::Wish(Output::DeviceChanged(device)) => self.cascade.device_changed(clock.now, device),
                cascade::Output::Wish(Output::Answer { ticket, answer }) if ticket.0 & OF_CASCADE != 0 => {
                    let ticket = Ticket(ticket.0 & !OF_CASCADE);
                    self.tell_cascade(clock, cascade::Input::Answered { ticket, answer }, &mut todo);
                }
                cascade::Output::Wish(wish) => out.push(wish),
            }
        }
    }

    fn next_timeout(&self) -> Option<Stamp> {
        [self.platform.next_timeout(), self.cascade.next_timeout()].into_iter().flatten().min()
    }

    fn saved(&self) -> Self::Saved {
        Saved { platform: self.platform.saved(), channels: self.cascade.ids().clone() }
    }

    fn is_leaving(&self) -> bool {
        self.platform.is_leaving() || self.cascade.is_leaving()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::config::{Config, Gb28181, Upstream};
    use crate::protocol::gb28181::platform::Platform;
    use crate::protocol::gb28181::platform::ask::{CallOptions, Channel};
    use crate::protocol::gb28181::platform::view::DeviceView;
    use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
    use crate::session::StreamKey;

    /// Answers every message with its own bytes, and knows one device.
    #[derive(Default)]
    struct Echo {
        told: usize,
    }

    impl Brain for Echo {
        type Saved = usize;

        fn handle(&mut self, _: Clock, input: Input<'_>, out: &mut Vec<Output>) {
            self.told += 1;
            match input {
                Input::Message { hop, bytes } => out.push(Output::Send { hop, bytes: Bytes::copy_from_slice(bytes) }),
                Input::Ask { ticket, ask: Ask::Devices } => {
                    let device = DeviceView { id: "d".to_owned(), channels: 1, ..DeviceView::default() };
                    out.push(Output::Answer { ticket, answer: Answer::Devices(vec![device]) });
                }
                Input::Ask { ticket, .. } => out.push(Output::Answer { ticket, answer: Answer::Channels(Vec::new()) }),
                _ => {}
            }
        }

        fn next_timeout(&self) -> Option<Stamp> {
            None
        }

        fn saved(&self) -> usize {
            self.told
        }
    }

    fn station() -> Station<Echo> {
        let upstream = Upstream {
            address: Some(([198, 51, 100, 1], 5060).into()),
            id: "34010000002000000009".to_owned(),
            share: vec!["*".to_owned()],
            ..Upstream::default()
        };
        let section = Gb28181 { upstream: vec![upstream], ..Gb28181::default() };
        Station::new(Echo::default(), Cascade::new(&section, &[1; 32], Ids::default()))
    }

    fn handle(station: &mut Station<Echo>, input: Input<'_>) -> Vec<Output> {
        let (clock, mut out) = (Clock { now: Stamp::from_millis(1_000), unix_ms: 0 }, Vec::new());
        station.handle(clock, input, &mut out);
        out
    }

    #[test]
    fn each_hears_what_is_its_own() {
        let mut station = station();
        let hop = |peer: SocketAddr| Hop { carrier: Carrier::Udp, peer, local: ([192, 0, 2, 1], 5060).into() };
        let (above, device) = (hop(([198, 51, 100, 1], 5060).into()), hop(([203, 0, 113, 9], 5060).into()));
        assert_eq!(handle(&mut station, Input::Message { hop: above, bytes: b"\r\n" }).len(), 0);
        assert_eq!(station.platform.told, 0);
        assert_eq!(handle(&mut station, Input::Message { hop: device, bytes: b"\r\n" }).len(), 1);
        // The cascade looks at the devices, which the platform answers at once, and finds its way once it knows the streams.
        let out = handle(&mut station, Input::Timeout);
        assert!(out.iter().any(|output| matches!(output, Output::ListStreams)));
        assert!(!out.iter().any(|output| matches!(output, Output::Answer { .. })), "between the two");
        assert_eq!(station.platform.told, 3);
        let out = handle(&mut station, Input::Streams(Vec::new()));
        assert!(out.iter().any(|output| matches!(output, Output::Reach { tcp: false, .. })));
        let out = handle(&mut station, Input::Ask { ticket: Ticket(3), ask: Ask::Upstreams });
        let [Output::Answer { ticket: Ticket(3), answer: Answer::Upstreams(views) }] = &out[..] else { panic!("{out:?}") };
        assert_eq!((views.len(), views[0].state), (1, "reaching"));
        handle(&mut station, Input::SenderOpened { call: CallId(5), port: Ok(1) });
        assert_eq!(station.platform.told, 4);
        let out = handle(&mut station, Input::SenderOpened { call: CallId(5 | OF_CASCADE), port: Ok(1) });
        assert!(
            matches!(out[..], [Output::CloseSender(call)] if call == CallId(5 | OF_CASCADE)),
            "a call that is not there: {out:?}"
        );
        handle(&mut station, Input::Closed(ConnectionId(1)));
        assert_eq!((station.platform.told, station.saved().platform), (5, 5));
        handle(&mut station, Input::Finishing);
        assert_eq!((station.platform.told, station.is_leaving()), (6, false));
    }

    const IDS: [&str; 2] = ["34020000002000000001", "34010000002000000009"];

    /// One of two platforms that are above each other.
    struct Side {
        station: Station<Platform>,
        address: SocketAddr,
        notes: Vec<String>,
        answers: Vec<Answer>,
        opened: Vec<&'static str>,
    }

    struct Pair {
        sides: [Side; 2],
        now: Stamp,
    }

    impl Pair {
        fn new() -> Self {
            let addresses: [SocketAddr; 2] = [([192, 0, 2, 1], 5060).into(), ([198, 51, 100, 1], 5060).into()];
            let side = |own: usize| {
                let mut config = Config::default();
                let section = &mut config.gb28181;
                (section.id, section.domain) = (IDS[own].to_owned(), IDS[own][..10].to_owned());
                section.password = "secret".to_owned();
                section.upstream = vec![Upstream {
                    address: Some(addresses[1 - own]),
                    id: IDS[1 - own].to_owned(),
                    password: "secret".to_owned(),
                    share: vec!["live/*".to_owned()],
                    ..Upstream::default()
                }];
                let cascade = Cascade::new(&config.gb28181, &[own as u8; 32], Ids::default());
                let platform = Platform::new(Arc::new(config), Default::default(), [own as u8 + 9; 32]);
                let station = Station::new(platform, cascade);
                Side { station, address: addresses[own], notes: vec![], answers: vec![], opened: vec![] }
            };
            Pair { sides: [side(0), side(1)], now: Stamp::from_millis(1_000) }
        }

        fn tell(&mut self, own: usize, input: Input<'_>) {
            let mut todo = VecDeque::new();
            self.tell_one(own, input, &mut todo);
            while let Some((own, output)) = todo.pop_front() {
                let (local, peer) = (self.sides[own].address, self.sides[1 - own].address);
                match output {
                    Output::Send { hop, bytes } => {
                        assert_eq!(hop.peer, peer);
                        let hop = Hop { carrier: Carrier::Udp, peer: local, local: peer };
                        self.tell_one(1 - own, Input::Message { hop, bytes: &bytes }, &mut todo);
                    }
                    Output::Reach { to, .. } => {
                        let hop = Ok(Hop { carrier: Carrier::Udp, peer: to, local });
                        self.tell_one(own, Input::Reached { to, hop }, &mut todo);
                    }
                    Output::ListStreams => {
                        let key = StreamKey::parse(&format!("live/of{own}")).unwrap();
                        self.tell_one(own, Input::Streams(vec![key]), &mut todo);
                    }
                    Output::OpenReceiver { call, .. } => {
                        self.sides[own].opened.push("receiver");
                        self.tell_one(own, Input::ReceiverOpened { call, port: Ok(30_000) }, &mut todo);
                    }
                    Output::OpenSender { call, .. } => {
                        self.sides[own].opened.push("sender");
                        self.tell_one(own, Input::SenderOpened { call, port: Ok(20_000) }, &mut todo);
                    }
                    Output::CloseReceiver(_) => self.sides[own].opened.push("no receiver"),
                    Output::CloseSender(_) => self.sides[own].opened.push("no sender"),
                    Output::Answer { answer, .. } => self.sides[own].answers.push(answer),
                    Output::Note { message, .. } => self.sides[own].notes.push(message),
                    Output::DeviceChanged(_) => unreachable!("the cascade takes it"),
                    Output::Save | Output::SaveLater | Output::Hangup(_) | Output::ExpectSource { .. } => {}
                }
            }
        }

        fn tell_one(&mut self, own: usize, input: Input<'_>, todo: &mut VecDeque<(usize, Output)>) {
            let mut out = Vec::new();
            let clock = Clock { now: self.now, unix_ms: 1_767_312_245_000 + self.now.as_nanos() / 1_000_000 };
            self.sides[own].station.handle(clock, input, &mut out);
            todo.extend(out.into_iter().map(|output| (own, output)));
        }

        fn pass(&mut self, ms: u64) {
            let end = self.now.after_millis(ms);
            while let Some((due, own)) = (0..2).filter_map(|own| Some((self.sides[own].station.next_timeout()?, own))).min()
                && due <= end
            {
                self.now = self.now.max(due);
                self.tell(own, Input::Timeout);
            }
            self.now = end;
        }

        fn ask(&mut self, own: usize, ask: Ask) -> Answer {
            self.tell(own, Input::Ask { ticket: Ticket(7), ask });
            self.sides[own].answers.pop().expect("it is answered at once")
        }
    }

    #[test]
    fn two_platforms_register_with_each_other_and_each_plays_what_the_other_has() {
        let mut pair = Pair::new();
        pair.pass(200_000);
        for own in 0..2 {
            let Answer::Upstreams(above) = pair.ask(own, Ask::Upstreams) else { panic!() };
            let notes = &pair.sides[own].notes;
            assert_eq!((above[0].state, above[0].keepalives_missed), ("online", 0), "{notes:#?}");
            let Answer::Devices(below) = pair.ask(own, Ask::Devices) else { panic!() };
            assert_eq!((below.len(), below[0].id.as_str(), below[0].online), (1, IDS[1 - own], true));
            assert_eq!(below[0].channels, 1, "{below:?}");
        }
        for own in 0..2 {
            let Answer::Channels(channels) = pair.ask(own, Ask::Channels(IDS[1 - own].to_owned())) else { panic!() };
            let of = Channel { device: IDS[1 - own].to_owned(), channel: channels[0].id.clone() };
            assert_eq!(channels[0].name.as_deref(), Some(format!("live/of{}", 1 - own).as_str()));
            let Answer::Call(call) = pair.ask(own, Ask::Play { of, options: CallOptions::default() }) else { panic!() };
            assert_eq!((&pair.sides[own].opened[..], &pair.sides[1 - own].opened[..]), (&["receiver"][..], &["sender"][..]));
            assert!(matches!(pair.ask(own, Ask::Stop(call.id)), Answer::Done));
            assert_eq!(pair.sides[own].opened, ["receiver", "no receiver"]);
            assert_eq!(pair.sides[1 - own].opened, ["sender", "no sender"]);
            pair.sides.iter_mut().for_each(|side| side.opened.clear());
        }
    }
}
