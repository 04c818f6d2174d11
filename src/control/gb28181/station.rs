//! The platform and the cascade as one: what comes goes to whichever it is for, and each hears what it wants of the other.
//!
//! Both use one SIP port. A message of a platform above is the cascade's, everything else the platform's. Calls and questions of the cascade
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
            Input::Closed(connection) if self.cascade.has_connection(connection) => {
                self.tell_cascade(clock, cascade::Input::Closed(connection), &mut todo);
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

    use bytes::Bytes;

    use super::*;
    use crate::config::{Gb28181, Upstream};
    use crate::protocol::gb28181::platform::view::DeviceView;
    use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};

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
}
