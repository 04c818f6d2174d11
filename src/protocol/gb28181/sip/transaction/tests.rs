//! Both kinds of transactions in virtual time, over networks that lose and repeat.

use bytes::Bytes;

use super::*;
use crate::protocol::common::random::SplitMix64;
use crate::protocol::gb28181::sip::dialog::Dialog;

const TCP: Carrier = Carrier::Tcp(ConnectionId(4));

fn hop(carrier: Carrier) -> Hop {
    Hop { carrier, peer: ([192, 0, 2, 10], 5_060).into(), local: ([198, 51, 100, 1], 5_060).into() }
}

/// A request as a dialog would make it.
fn request(method: Method, call_id: &str) -> Request {
    let mut request = Request::new(method, "sip:34020000001310000001@192.0.2.10:5060");
    request.headers.push("From", "<sip:34020000002000000001@3402000000>;tag=p1");
    request.headers.push("To", "<sip:34020000001310000001@3402000000>");
    request.headers.push("Call-ID", call_id);
    let cseq = format!("20 {}", request.method);
    request.headers.push("CSeq", &cseq);
    request
}

/// As it stands on the wire, from a device.
fn wire(method: Method, call_id: &str, branch: &str) -> Bytes {
    let mut request = request(method, call_id);
    request.headers.push_front("Via", &format!("SIP/2.0/UDP 192.168.1.64:5060;rport;branch={branch}"));
    request.to_bytes()
}

struct Side {
    transactions: Transactions,
    now: Stamp,
}

impl Side {
    fn new() -> Self {
        Side { transactions: Transactions::new(&[1; 32]), now: Stamp::from_millis(1_000_000) }
    }

    fn receive(&mut self, carrier: Carrier, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        self.transactions.received(self.now, hop(carrier), bytes, &mut events);
        events
    }

    fn sends(&mut self) -> Vec<Message> {
        self.transactions.take_sends().map(|(_, bytes)| Message::parse(&bytes).unwrap()).collect()
    }

    /// Statuses of answers and methods of requests.
    fn words(&mut self) -> Vec<String> {
        let word = |message: Message| match message {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => response.status.to_string(),
        };
        self.sends().into_iter().map(word).collect()
    }

    /// Lets time pass; what is sent then, with milliseconds from the beginning.
    fn run(&mut self, ms: u64) -> (Vec<(u64, String)>, Vec<Event>) {
        let (begin, end) = (self.now, self.now.after_millis(ms));
        let (mut sent, mut events) = (Vec::new(), Vec::new());
        while let Some(due) = self.transactions.next_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.transactions.timeout(self.now, &mut events);
            let at = self.now.millis_since(begin);
            sent.extend(self.words().into_iter().map(|word| (at, word)));
        }
        self.now = end;
        (sent, events)
    }

    /// The request that was sent just now, and what the device answers to it.
    fn sent_request(&mut self) -> Request {
        match self.sends().pop() {
            Some(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }
}

fn times(sent: &[(u64, String)]) -> Vec<u64> {
    sent.iter().map(|(at, _)| *at).collect()
}

fn server_id(events: &[Event]) -> ServerId {
    match events {
        [Event::Request { id, .. }] => *id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_repeated_until_its_time_is_over() {
    let cases: [(Carrier, u64, &[u64], u64); 4] = [
        (Carrier::Udp, 5_000, &[500, 1_500, 3_500], 5_000),
        (Carrier::Udp, 60_000, &[500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500], 32_000),
        (TCP, 5_000, &[], 5_000),
        (TCP, 60_000, &[], 32_000),
    ];
    for (carrier, limit_ms, repeats, over) in cases {
        let mut side = Side::new();
        let id = side.transactions.request(side.now, hop(carrier), request(Method::Message, "c"), limit_ms).unwrap();
        let first = side.sent_request();
        assert_eq!(first.headers.get("Max-Forwards"), Some("70"));
        let (sent, events) = side.run(over - 1);
        assert_eq!((times(&sent), events), (repeats.to_vec(), vec![]));
        assert_eq!(side.run(1).1, [Event::Failed { id, failure: Failure::Silence }]);
        assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
        assert_eq!(side.transactions.next_timeout(), None);
    }
}

#[test]
fn an_answer_is_given_out_once() {
    for carrier in [Carrier::Udp, TCP] {
        let mut side = Side::new();
        let id = side.transactions.request(side.now, hop(carrier), request(Method::Message, "c"), 5_000).unwrap();
        let sent = side.sent_request();
        assert_eq!(side.receive(carrier, &sent.response(100).to_bytes()), [], "no answer yet");
        let answer = sent.response(200);
        assert_eq!(
            side.receive(carrier, &answer.to_bytes()),
            [Event::Response { id, hop: hop(carrier), response: answer.clone() }]
        );
        assert_eq!(side.receive(carrier, &answer.to_bytes()), []);
        let (again, events) = side.run(10_000);
        assert_eq!((again.len(), events.len(), side.transactions.len()), (0, 0, 0));
        assert_eq!(side.receive(carrier, &answer.to_bytes()), [], "long after");
    }
}

#[test]
fn an_answer_of_somebody_else_is_none() {
    let mut side = Side::new();
    side.transactions.request(side.now, hop(Carrier::Udp), request(Method::Message, "c"), 5_000).unwrap();
    let sent = side.sent_request();
    let mut forged = sent.response(200);
    forged.headers.set("Via", "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK0000000000000001");
    assert_eq!(side.receive(Carrier::Udp, &forged.to_bytes()), []);
    let mut other = sent.response(200);
    other.headers.set("CSeq", "20 INVITE");
    assert_eq!(side.receive(Carrier::Udp, &other.to_bytes()), []);
}

#[test]
fn a_call_is_answered_and_acknowledged_as_often_as_needed() {
    let mut side = Side::new();
    let id = side.transactions.invite(side.now, hop(Carrier::Udp), request(Method::Invite, "c")).unwrap();
    let invite = side.sent_request();
    let (sent, _) = side.run(4_000);
    assert_eq!(times(&sent), [500, 1_500, 3_500]);
    assert_eq!(side.receive(Carrier::Udp, &invite.response(100).to_bytes()).len(), 1);
    assert_eq!(side.run(20_000), (vec![], vec![]), "not repeated once it has arrived");
    let answer = invite.response(200);
    assert_eq!(side.receive(Carrier::Udp, &answer.to_bytes()).len(), 1);
    let dialog = Dialog::of_answer(&invite, &answer).unwrap();
    side.transactions.ack(hop(Carrier::Udp), id, dialog.ack());
    let ack = side.sends();
    for _ in 0..3 {
        assert_eq!(side.receive(Carrier::Udp, &answer.to_bytes()), []);
        assert_eq!(side.sends(), ack);
    }
    let mut fork = answer.clone();
    fork.headers.set("To", "<sip:34020000001310000001@3402000000>;tag=other");
    side.receive(Carrier::Udp, &fork.to_bytes());
    assert_eq!(side.sends(), []);
    side.run(LIMIT_MS);
    assert!(side.transactions.is_empty());
}

#[test]
fn a_refused_call_is_acknowledged_by_itself() {
    for carrier in [Carrier::Udp, TCP] {
        let mut side = Side::new();
        side.transactions.invite(side.now, hop(carrier), request(Method::Invite, "c")).unwrap();
        let invite = side.sent_request();
        let answer = invite.response(486);
        assert_eq!(side.receive(carrier, &answer.to_bytes()).len(), 1);
        let ack = side.sent_request();
        assert_eq!((ack.method.clone(), ack.headers.get("Via")), (Method::Ack, invite.headers.get("Via")));
        assert_eq!((ack.headers.get("To"), ack.headers.get("CSeq")), (answer.headers.get("To"), Some("20 ACK")));
        assert_eq!(side.receive(carrier, &answer.to_bytes()), []);
        assert_eq!(side.sends().len(), usize::from(carrier == Carrier::Udp));
        side.run(LIMIT_MS);
        assert!(side.transactions.is_empty());
    }
}

#[test]
fn a_call_that_is_wanted_no_more() {
    // Before any answer: CANCEL waits, and the INVITE is not repeated.
    let mut side = Side::new();
    let id = side.transactions.invite(side.now, hop(Carrier::Udp), request(Method::Invite, "c")).unwrap();
    let invite = side.sent_request();
    side.transactions.cancel(side.now, id);
    assert_eq!(side.run(10_000), (vec![], vec![]));
    side.receive(Carrier::Udp, &invite.response(100).to_bytes());
    let cancel = side.sent_request();
    assert_eq!((cancel.method.clone(), cancel.headers.get("Via")), (Method::Cancel, invite.headers.get("Via")));
    assert_eq!(cancel.headers.get("CSeq"), Some("20 CANCEL"));
    assert_eq!(side.receive(Carrier::Udp, &cancel.response(200).to_bytes()), [], "nobody asked for that");
    let events = side.receive(Carrier::Udp, &invite.response(487).to_bytes());
    assert!(matches!(&events[..], [Event::Response { response, .. }] if response.status == 487));
    assert_eq!(side.words(), ["ACK"]);
    side.run(LIMIT_MS);
    assert!(side.transactions.is_empty());
    // The answer crosses the CANCEL.
    let id = side.transactions.invite(side.now, hop(TCP), request(Method::Invite, "d")).unwrap();
    let invite = side.sent_request();
    side.receive(TCP, &invite.response(180).to_bytes());
    side.transactions.cancel(side.now, id);
    side.transactions.cancel(side.now, id);
    assert_eq!(side.words(), ["CANCEL"]);
    let events = side.receive(TCP, &invite.response(200).to_bytes());
    assert!(matches!(&events[..], [Event::Response { response, .. }] if response.is_success()));
    // Nothing comes at all.
    let mut side = Side::new();
    let id = side.transactions.invite(side.now, hop(Carrier::Udp), request(Method::Invite, "e")).unwrap();
    side.transactions.cancel(side.now, id);
    assert_eq!(side.run(LIMIT_MS).1, [Event::Failed { id, failure: Failure::Silence }]);
}

#[test]
fn repeated_requests_are_answered_again_and_given_out_once() {
    let mut side = Side::new();
    let bytes = wire(Method::Message, "c", "z9hG4bK1");
    let id = server_id(&side.receive(Carrier::Udp, &bytes));
    assert_eq!(side.receive(Carrier::Udp, &bytes), []);
    assert_eq!(side.words(), [""; 0], "no answer yet");
    let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!() };
    side.transactions.respond(side.now, id, &request.response(200));
    side.transactions.respond(side.now, id, &request.response(500));
    assert_eq!(side.words(), ["200"]);
    assert_eq!(side.receive(Carrier::Udp, &bytes), []);
    assert_eq!(side.words(), ["200"]);
    // Devices that always send the same branch.
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Message, "d", "z9hG4bK1")).len(), 1);
    // Devices that send none to speak of.
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Message, "e", "")).len(), 1);
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Message, "e", "")), []);
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Message, "f", "1")).len(), 1);
    side.run(LIMIT_MS);
    assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
}

#[test]
fn an_accepted_call_is_answered_until_it_is_acknowledged() {
    for carrier in [Carrier::Udp, TCP] {
        let mut side = Side::new();
        let bytes = wire(Method::Invite, "c", "z9hG4bK1");
        let events = side.receive(carrier, &bytes);
        let id = server_id(&events);
        assert_eq!(side.words(), ["100"]);
        let [Event::Request { request, .. }] = &events[..] else { panic!() };
        let answer = request.response(200);
        side.transactions.respond(side.now, id, &answer);
        assert_eq!(side.words(), ["200"]);
        let (sent, _) = side.run(12_000);
        assert_eq!(times(&sent), [500, 1_500, 3_500, 7_500, 11_500]);
        // With a branch of its own, as it must be.
        let mut ack = Dialog::of_answer(request, &answer).unwrap().ack();
        ack.headers.push_front("Via", "SIP/2.0/UDP 192.168.1.64;branch=z9hG4bK2");
        let events = side.receive(carrier, &ack.to_bytes());
        assert!(matches!(&events[..], [Event::Ack { invite, .. }] if *invite == id), "{events:?}");
        assert_eq!(side.receive(carrier, &ack.to_bytes()), []);
        assert_eq!(side.receive(carrier, &bytes), [], "the INVITE again, much too late");
        assert_eq!(side.run(LIMIT_MS), (vec![], vec![]));
        assert!(side.transactions.is_empty());
        // And without.
        let id = server_id(&side.receive(carrier, &bytes));
        side.transactions.respond(side.now, id, &answer);
        assert_eq!(side.run(LIMIT_MS).1, [Event::Unacknowledged { invite: id }]);
        assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
    }
}

#[test]
fn a_call_is_refused_until_that_is_acknowledged() {
    let mut side = Side::new();
    let bytes = wire(Method::Invite, "c", "z9hG4bK1");
    let id = server_id(&side.receive(Carrier::Udp, &bytes));
    let Ok(Message::Request(invite)) = Message::parse(&bytes) else { panic!() };
    side.transactions.respond(side.now, id, &invite.response(488));
    side.sends();
    assert_eq!(times(&side.run(2_000).0), [500, 1_500]);
    let ack = wire(Method::Ack, "c", "z9hG4bK1");
    assert_eq!(side.receive(Carrier::Udp, &ack), []);
    assert_eq!(side.receive(Carrier::Udp, &ack), []);
    assert_eq!(side.run(T4_MS), (vec![], vec![]));
    assert!(side.transactions.is_empty());
    assert_eq!(side.receive(Carrier::Udp, &ack), [], "of nothing");
    assert_eq!(side.words(), [""; 0]);
}

#[test]
fn the_other_side_cancels() {
    let mut side = Side::new();
    let id = server_id(&side.receive(Carrier::Udp, &wire(Method::Invite, "c", "z9hG4bK1")));
    side.sends();
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Cancel, "c", "z9hG4bK1")), [Event::Cancelled { invite: id }]);
    assert_eq!(side.words(), ["200", "487"]);
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Cancel, "c", "z9hG4bK1")), []);
    assert_eq!(side.words(), ["200"]);
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Cancel, "c", "z9hG4bK2")), []);
    assert_eq!(side.words(), ["481"]);
}

#[test]
fn broken_messages_are_named_and_answered_if_possible() {
    let text = String::from_utf8(wire(Method::Message, "c", "z9hG4bK1").to_vec()).unwrap();
    let cases = [
        ("a ping", "\r\n\r\n".to_owned(), "", &[][..]),
        ("no SIP", "GET / HTTP/1.1\r\n\r\n".to_owned(), "sip_bad_first_line", &[]),
        ("cut off", text.replace("Length: 0", "Length: 5"), "sip_body_cut", &["400"]),
        ("a megabyte", text.replace("Length: 0", "Length: 1000000"), "sip_body_too_long", &["413"]),
        ("two methods", text.replace("20 MESSAGE", "20 BYE"), "sip_no_identity", &["400"]),
        ("no From", text.replace("From", "X"), "sip_no_identity", &["400"]),
        ("no Via", text.replace("Via", "X"), "sip_no_identity", &[]),
    ];
    for (name, bytes, reason, sent) in cases {
        let mut side = Side::new();
        let events = side.receive(Carrier::Udp, bytes.as_bytes());
        let seen = events.iter().map(|event| match event {
            Event::Broken { reason, .. } => *reason,
            other => panic!("{other:?}"),
        });
        assert_eq!(seen.collect::<String>(), reason, "{name}");
        assert_eq!(side.words(), sent, "{name}");
        assert!(side.transactions.is_empty());
    }
}

#[test]
fn a_connection_that_closes_takes_its_transactions_along() {
    let mut side = Side::new();
    let id = side.transactions.request(side.now, hop(TCP), request(Method::Message, "c"), 5_000).unwrap();
    let kept = side.transactions.request(side.now, hop(Carrier::Udp), request(Method::Message, "d"), 5_000).unwrap();
    let invite = server_id(&side.receive(TCP, &wire(Method::Invite, "e", "z9hG4bK1")));
    let Ok(Message::Request(request)) = Message::parse(&wire(Method::Invite, "e", "z9hG4bK1")) else { panic!() };
    side.transactions.respond(side.now, invite, &request.response(200));
    let mut events = Vec::new();
    side.transactions.closed(ConnectionId(4), &mut events);
    assert_eq!(events, [Event::Failed { id, failure: Failure::Closed }, Event::Unacknowledged { invite }]);
    assert_eq!(side.words(), ["MESSAGE"]);
    assert_eq!(side.run(5_000).1, [Event::Failed { id: kept, failure: Failure::Silence }]);
    assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
}

#[test]
fn a_flood_takes_the_place_of_what_is_answered_and_no_other() {
    let mut side = Side::new();
    side.transactions.servers.room = 100;
    let first = wire(Method::Message, "first", "z9hG4bK0");
    let waiting = server_id(&side.receive(Carrier::Udp, &wire(Method::Message, "waiting", "z9hG4bK0")));
    let Ok(Message::Request(request)) = Message::parse(&first) else { panic!() };
    let id = server_id(&side.receive(Carrier::Udp, &first));
    side.transactions.respond(side.now, id, &request.response(200));
    for number in 0..100 {
        side.receive(Carrier::Udp, &wire(Method::Message, "flood", &format!("z9hG4bK{number}")));
    }
    assert_eq!((side.transactions.servers.len(), side.transactions.refused()), (100, 1));
    assert_eq!(side.words(), ["200", "503"]);
    side.transactions.respond(side.now, waiting, &request.response(200));
    assert_eq!(side.words(), ["200"]);
    assert_eq!(side.receive(Carrier::Udp, &wire(Method::Message, "then", "z9hG4bK0")).len(), 1);
    side.run(LIMIT_MS);
    assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
}

/// Loses a third of what is sent, and repeats some.
fn carry(from: &mut Side, to: &mut Side, random: &mut SplitMix64, events: &mut Vec<Event>) {
    for (_, bytes) in from.transactions.take_sends() {
        for _ in 0..[0, 1, 2, 1, 0, 1][(random.next() % 6) as usize] {
            events.extend(to.receive(Carrier::Udp, &bytes));
        }
    }
}

/// Two sides such a network: each request is seen once and answered once.
#[test]
fn nothing_is_lost_for_good() {
    for seed in 0..40 {
        let mut random = SplitMix64::new(seed);
        let (mut us, mut them) = (Side::new(), Side::new());
        let (mut seen, mut answered, mut acked, mut failed) = (0, 0, 0, 0);
        for number in 0..10 {
            let is_invite = number % 2 == 0;
            let message = request(if is_invite { Method::Invite } else { Method::Message }, &format!("c{number}"));
            if is_invite {
                us.transactions.invite(us.now, hop(Carrier::Udp), message);
            } else {
                us.transactions.request(us.now, hop(Carrier::Udp), message, LIMIT_MS);
            }
        }
        for _ in 0..2_000 {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            carry(&mut us, &mut them, &mut random, &mut theirs);
            carry(&mut them, &mut us, &mut random, &mut ours);
            us.transactions.timeout(us.now, &mut ours);
            them.transactions.timeout(them.now, &mut theirs);
            for event in theirs {
                match event {
                    Event::Request { id, request, .. } => {
                        seen += 1;
                        them.transactions.respond(them.now, id, &request.response(if seen % 3 == 0 { 486 } else { 200 }));
                    }
                    Event::Ack { .. } => acked += 1,
                    Event::Unacknowledged { .. } => failed += 1,
                    other => panic!("{other:?}"),
                }
            }
            for event in ours {
                match event {
                    Event::Response { id, response, .. } if response.is_final() => {
                        answered += 1;
                        let identity = response.identity().unwrap();
                        if identity.cseq.method == Method::Invite && response.is_success() {
                            let mut ack = request(Method::Ack, identity.call_id);
                            ack.headers.set("To", response.headers.get("To").unwrap());
                            us.transactions.ack(hop(Carrier::Udp), id, ack);
                        }
                    }
                    Event::Response { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            us.now = us.now.after_millis(50);
            them.now = us.now;
        }
        assert_eq!((seen, answered, failed), (10, 10, 0), "seed {seed}");
        assert!((1..=5).contains(&acked), "seed {seed}");
        assert!(us.transactions.is_empty() && them.transactions.is_empty(), "seed {seed}");
    }
}

#[test]
fn the_tag_of_answers_is_one_that_nobody_else_can_make() {
    let tag = |secret: u8, bytes: &[u8]| {
        let mut side = Side { transactions: Transactions::new(&[secret; 32]), ..Side::new() };
        let mut events = side.receive(Carrier::Udp, bytes);
        let Some(Event::Request { request, .. }) = events.pop() else { panic!() };
        let to = request.response(403).headers.get("To").unwrap().to_owned();
        to.split_once(";tag=").unwrap().1.to_owned()
    };
    let bytes = wire(Method::Invite, "c", "z9hG4bK1");
    assert_eq!(tag(1, &bytes), tag(1, &wire(Method::Invite, "c", "z9hG4bK2")), "of the same request the same");
    assert_ne!(tag(1, &bytes), tag(2, &bytes), "of another process another one");
    assert_ne!(tag(1, &bytes), tag(1, &wire(Method::Invite, "d", "z9hG4bK1")), "of another call another one");
}

#[test]
fn what_is_refused_once_leaves_nothing() {
    for method in [Method::Invite, Method::Bye] {
        let mut side = Side::new();
        let bytes = wire(method.clone(), "c", "z9hG4bK1");
        for _ in 0..2 {
            let id = server_id(&side.receive(Carrier::Udp, &bytes));
            let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!() };
            side.transactions.respond_once(id, &request.response(403));
            assert_eq!(side.words(), ["403"], "{method}: no 100 before");
            assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
        }
        assert_eq!(side.run(LIMIT_MS), (vec![], vec![]), "{method}");
        assert_eq!(side.receive(Carrier::Udp, &wire(Method::Ack, "c", "z9hG4bK1")), []);
    }
}

#[test]
fn refused_calls_give_way_first() {
    let mut side = Side::new();
    side.transactions.servers.room = 4;
    let answer = |side: &mut Side, method: Method, call_id: &str, status: u16| {
        let bytes = wire(method, call_id, "z9hG4bK1");
        let id = server_id(&side.receive(Carrier::Udp, &bytes));
        let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!() };
        side.transactions.respond(side.now, id, &request.response(status));
    };
    answer(&mut side, Method::Message, "a", 200);
    answer(&mut side, Method::Invite, "b", 488);
    answer(&mut side, Method::Invite, "c", 200);
    answer(&mut side, Method::Invite, "d", 488);
    answer(&mut side, Method::Message, "e", 200);
    answer(&mut side, Method::Message, "f", 200);
    side.sends();
    let known =
        |side: &mut Side, method, call_id: &str| side.receive(Carrier::Udp, &wire(method, call_id, "z9hG4bK1")).is_empty();
    assert!(known(&mut side, Method::Message, "a") && known(&mut side, Method::Invite, "c"));
    assert!(!known(&mut side, Method::Invite, "b"), "it has given way");
}

#[test]
fn a_closed_connection_ends_what_is_its_own() {
    let mut side = Side::new();
    let other = Carrier::Tcp(ConnectionId(5));
    let ended = side.transactions.request(side.now, hop(TCP), request(Method::Message, "a"), 5_000).unwrap();
    side.transactions.request(side.now, hop(other), request(Method::Message, "b"), 5_000).unwrap();
    // A request that comes again over another connection moves there.
    side.receive(TCP, &wire(Method::Message, "c", "z9hG4bK1"));
    side.receive(other, &wire(Method::Message, "c", "z9hG4bK1"));
    side.receive(TCP, &wire(Method::Message, "d", "z9hG4bK2"));
    let mut events = Vec::new();
    side.transactions.closed(ConnectionId(4), &mut events);
    assert_eq!(events, [Event::Failed { id: ended, failure: Failure::Closed }]);
    assert_eq!(side.transactions.len(), 2);
    side.transactions.closed(ConnectionId(5), &mut events);
    assert!(side.transactions.is_empty() && side.transactions.held_bytes() == 0);
    assert!(side.transactions.shared.by_connection.is_empty());
}
