//! Messages of the other side, requests and answers of ours, and time → `Transactions`: no panic, what is due is done, each request of ours
//! gets one final answer or fails, nothing is left in the end.
//!
//! Input: steps: what happens, a byte for who and how long, sized bytes. Half of the messages are made from a template, so that they match.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use shardcast::media::Stamp;
use shardcast::protocol::gb28181::sip::message::{Message, Method, Request};
use shardcast::protocol::gb28181::sip::transaction::{ClientId, Event, PROCEEDING_MS, ServerId, Transactions};
use shardcast::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
use shardcast_fuzz::Choices;

const METHODS: [Method; 5] = [Method::Invite, Method::Ack, Method::Cancel, Method::Message, Method::Bye];

fn hop(choice: u8) -> Hop {
    let carrier = if choice & 1 == 0 { Carrier::Udp } else { Carrier::Tcp(ConnectionId(u64::from(choice >> 1 & 1))) };
    Hop { carrier, peer: ([10, 0, 0, 9], 5_060).into(), local: ([10, 0, 0, 1], 5_060).into() }
}

fn request(choice: u8) -> Request {
    let mut request = Request::new(METHODS[usize::from(choice) % METHODS.len()].clone(), "sip:1@h");
    request.headers.push("From", "<sip:1@h>;tag=a");
    request.headers.push("To", if choice & 0x40 == 0 { "<sip:2@h>" } else { "<sip:2@h>;tag=b" });
    request.headers.push("Call-ID", if choice & 0x80 == 0 { "c" } else { "d" });
    let cseq = format!("1 {}", request.method);
    request.headers.push("CSeq", &cseq);
    request
}

#[derive(Default)]
struct Run {
    waiting: HashSet<ClientId>,
    invites: HashSet<ClientId>,
    to_answer: Vec<(ServerId, Request)>,
    sent: Vec<Request>,
}

impl Run {
    fn take(&mut self, transactions: &mut Transactions, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            match event {
                Event::Request { id, request, .. } => self.to_answer.push((id, request)),
                Event::Response { id, response, .. } => {
                    assert!(response.is_final() || self.invites.contains(&id));
                    assert!(!response.is_final() || self.waiting.remove(&id), "answered twice");
                }
                Event::Failed { id, .. } => assert!(self.waiting.remove(&id), "failed after an answer"),
                Event::Ack { .. } | Event::Cancelled { .. } | Event::Unacknowledged { .. } | Event::Broken { .. } => {}
            }
        }
        for (_, bytes) in transactions.take_sends() {
            if let Ok(Message::Request(request)) = Message::parse(&bytes) {
                self.sent.push(request);
            }
        }
        self.to_answer.truncate(64);
        let begin = self.sent.len().saturating_sub(64);
        self.sent.drain(..begin);
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let (mut transactions, mut now) = (Transactions::new(&[1; 32]), Stamp::from_millis(1_000_000));
    let (mut run, mut events) = (Run::default(), Vec::new());
    while !choices.is_over() {
        let (what, choice) = (choices.byte(), choices.byte());
        let hop = hop(what >> 4);
        match what & 7 {
            0 => now = now.after_millis(u64::from(choice) * 100),
            1 => transactions.received(now, hop, choices.sized(), &mut events),
            2 => {
                let mut request = request(choice);
                request.headers.push_front("Via", &format!("SIP/2.0/UDP h;branch=z9hG4bK{}", what >> 6));
                transactions.received(now, hop, &request.to_bytes(), &mut events);
            }
            3 => {
                let mut request = request(choice);
                if request.method == Method::Ack || request.method == Method::Cancel {
                    request.method = Method::Info;
                }
                let is_invite = request.method == Method::Invite;
                let id = if is_invite {
                    transactions.invite(now, hop, request)
                } else {
                    transactions.request(now, hop, request, 5_000)
                };
                let id = id.expect("there is room");
                run.waiting.insert(id);
                if is_invite {
                    run.invites.insert(id);
                }
            }
            4 => {
                if let Some(request) = run.sent.get(usize::from(choice) % 64) {
                    let status = [100, 180, 200, 202, 302, 486, 487, 699][usize::from(what >> 5)];
                    transactions.received(now, hop, &request.response(status).to_bytes(), &mut events);
                }
            }
            5 => {
                if let Some((id, request)) = run.to_answer.get(usize::from(choice) % 64) {
                    let status = [100, 180, 200, 202, 302, 486, 487, 699][usize::from(what >> 5)];
                    transactions.respond(now, *id, &request.response(status));
                }
            }
            6 => {
                let mut ids: Vec<&ClientId> = run.invites.iter().collect();
                ids.sort();
                if let Some(id) = ids.get(usize::from(choice) % 64) {
                    if what & 8 == 0 {
                        transactions.cancel(now, **id);
                    } else {
                        transactions.ack(hop, **id, request(1));
                    }
                }
            }
            _ if choice == 0xFF => transactions.closed(ConnectionId(u64::from(what >> 7)), &mut events),
            _ => {}
        }
        transactions.timeout(now, &mut events);
        assert!(transactions.next_timeout().is_none_or(|due| due > now), "due again at once");
        run.take(&mut transactions, &mut events);
    }
    while let Some(due) = transactions.next_timeout() {
        assert!(due <= now.after_millis(2 * PROCEEDING_MS), "it goes on for ever");
        transactions.timeout(due, &mut events);
        run.take(&mut transactions, &mut events);
    }
    assert!(run.waiting.is_empty() && transactions.is_empty());
    assert_eq!(transactions.held_bytes(), 0);
});
