//! A device's side of SIP transactions (RFC 3261 §17): requests are repeated until they are answered, and repeated requests are answered
//! as before. Not here: what the messages are about.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::sip::{Message, parameter};
use super::turn::{Random, Turn};
use crate::poll::NANOS_PER_SECOND;

/// RFC 3261 §17.1.1.1: between the first repetitions, between the later ones, and the whole.
pub const T1: u64 = NANOS_PER_SECOND / 2;
pub const T2: u64 = 4 * NANOS_PER_SECOND;
pub const TIMEOUT: u64 = 64 * T1;
/// Answers that are remembered for repeated requests.
const ANSWERED_MAX: usize = 64;
/// Requests that wait for their answers at the same time; further ones are not sent.
const SENT_MAX: usize = 64;
/// What a device behind NAT believes that it is.
const HIDDEN: &str = "192.0.2.10:5060";

/// What a request was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Register,
    Unregister,
    Keepalive,
    /// The next message of the queue.
    Queued,
    Notify,
    Bye,
    Broadcast,
}

/// Who speaks, and how.
#[derive(Clone, Debug)]
pub struct Identity {
    pub device: String,
    pub server_id: String,
    pub domain: String,
    /// Where this side's socket is.
    pub local: SocketAddr,
    pub tcp: bool,
    pub compact: bool,
    /// Everything twice.
    pub twice: bool,
    pub nat: bool,
}

impl Identity {
    fn host(&self) -> String {
        if self.nat { HIDDEN.to_owned() } else { self.local.to_string() }
    }

    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.device, self.host())
    }

    /// An address in the domain.
    pub fn address(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.domain)
    }
}

/// A conversation that outlives a transaction (RFC 3261 §12).
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    /// From and To, as this side writes them, with their tags.
    pub local: String,
    pub remote: String,
    /// Where requests go.
    pub target: String,
    pub sequence: u32,
}

struct Sent {
    branch: String,
    method: String,
    bytes: Vec<u8>,
    why: Why,
    resend_at: u64,
    interval: u64,
    deadline: u64,
}

pub struct Agent {
    pub identity: Identity,
    pub random: Random,
    /// Of the device among all that share a socket; stands in every branch.
    number: usize,
    sent: Vec<Sent>,
    answered: VecDeque<(String, Vec<u8>)>,
}

impl Agent {
    pub fn new(identity: Identity, number: usize, seed: u64) -> Agent {
        Agent { identity, random: Random(seed), number, sent: Vec::new(), answered: VecDeque::new() }
    }

    /// The number of the device that sent the request which this answers.
    pub fn number_of(response: &Message) -> Option<usize> {
        response.branch()?.strip_prefix("z9hG4bKd")?.split('-').next()?.parse().ok()
    }

    /// A request outside of any dialog.
    pub fn fresh(&mut self, method: &str, uri: &str, from: &str, to: &str) -> Message {
        let call_id = format!("{}@{}", self.random.word(), self.identity.local.ip());
        let from = format!("<{}>;tag={}", self.identity.address(from), self.random.word());
        self.message(method, uri, &from, &format!("<{to}>"), &call_id, 1)
    }

    pub fn in_dialog(&mut self, method: &str, dialog: &mut Dialog) -> Message {
        dialog.sequence += 1;
        let Dialog { call_id, local, remote, target, sequence } = dialog.clone();
        self.message(method, &target, &local, &remote, &call_id, sequence)
    }

    pub fn message(&mut self, method: &str, uri: &str, from: &str, to: &str, call_id: &str, sequence: u32) -> Message {
        let branch = format!("z9hG4bKd{}-{}", self.number, self.random.word());
        let transport = if self.identity.tcp { "TCP" } else { "UDP" };
        Message::request(method, uri)
            .with("Via", format!("SIP/2.0/{transport} {};rport;branch={branch}", self.identity.host()))
            .with("From", from)
            .with("To", to)
            .with("Call-ID", call_id)
            .with("CSeq", format!("{sequence} {method}"))
            .with("Max-Forwards", "70")
    }

    /// Sends a request and waits for its answer.
    pub fn send(&mut self, request: &Message, why: Why, turn: &mut Turn<'_>) {
        let (Some(branch), Some(method)) = (request.branch(), request.method()) else { return };
        if self.sent.len() < SENT_MAX {
            let bytes = self.put(request, turn);
            let (branch, method) = (branch.to_owned(), method.to_owned());
            let resend_at = if self.identity.tcp { u64::MAX } else { turn.now + T1 };
            let deadline = turn.now + TIMEOUT;
            self.sent.push(Sent { branch, method, bytes, why, resend_at, interval: T1, deadline });
        }
    }

    /// Sends a message that nobody answers.
    pub fn put(&mut self, message: &Message, turn: &mut Turn<'_>) -> Vec<u8> {
        let bytes = message.write(self.identity.compact);
        turn.out.extend(std::iter::repeat_n(&bytes, if self.identity.twice { 2 } else { 1 }).cloned());
        bytes
    }

    /// Answers a request, and remembers how.
    pub fn respond(&mut self, request: &Message, response: &Message, turn: &mut Turn<'_>) -> Vec<u8> {
        let bytes = self.put(response, turn);
        let is_final = response.status().is_some_and(|status| status >= 200);
        if let Some(key) = key(request).filter(|_| is_final) {
            if self.answered.len() >= ANSWERED_MAX {
                self.answered.pop_front();
            }
            self.answered.push_back((key, bytes.clone()));
        }
        bytes
    }

    /// Whether this is a request that was answered already; then it is answered again.
    pub fn is_repeated(&mut self, request: &Message, turn: &mut Turn<'_>) -> bool {
        let key = key(request);
        match self.answered.iter().find(|(known, _)| Some(known) == key.as_ref()) {
            Some((_, bytes)) => {
                turn.out.push(bytes.clone());
                true
            }
            None => false,
        }
    }

    /// What the request was for that this answers; `None`: none that waits, or it is only on its way.
    pub fn answered(&mut self, response: &Message) -> Option<Why> {
        let (branch, (_, method)) = (response.branch()?, response.sequence()?);
        let at = self.sent.iter().position(|sent| sent.branch == branch && sent.method == method)?;
        if response.status()? < 200 {
            // The other side has it: over UDP only an invitation may take long.
            self.sent[at].resend_at = if method == "INVITE" { u64::MAX } else { self.sent[at].resend_at };
            return None;
        }
        Some(self.sent.swap_remove(at).why)
    }

    /// Repeats what is due; says what was never answered.
    pub fn timeout(&mut self, turn: &mut Turn<'_>) -> Vec<Why> {
        let now = turn.now;
        for sent in self.sent.iter_mut().filter(|sent| sent.resend_at <= now && sent.deadline > now) {
            turn.out.push(sent.bytes.clone());
            sent.interval = (sent.interval * 2).min(T2);
            sent.resend_at = now + sent.interval;
        }
        let (over, waiting) = std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.deadline <= now);
        self.sent = waiting;
        let over: Vec<Sent> = over;
        over.into_iter().map(|sent| sent.why).collect()
    }

    pub fn next_due(&self) -> u64 {
        self.sent.iter().map(|sent| sent.resend_at.min(sent.deadline)).min().unwrap_or(u64::MAX)
    }

    /// Whether a request of that kind waits for its answer.
    pub fn waits_for(&self, why: &Why) -> bool {
        self.sent.iter().any(|sent| sent.why == *why)
    }

    /// Nothing is waited for any more.
    pub fn forget(&mut self) {
        self.sent.clear();
    }
}

/// Names a server transaction.
fn key(request: &Message) -> Option<String> {
    Some(format!("{} {}", request.method()?, request.branch()?))
}

impl Dialog {
    /// Of an invitation or a subscription that this side answers with `tag`.
    pub fn of_request(request: &Message, tag: &str) -> Option<Dialog> {
        let to = request.header("To")?;
        let local = if parameter(to, "tag").is_some() { to.to_owned() } else { format!("{to};tag={tag}") };
        let remote = request.header("From")?.to_owned();
        let target = request.header("Contact").map_or_else(|| super::sip::uri(&remote), super::sip::uri).to_owned();
        Some(Dialog { call_id: request.header("Call-ID")?.to_owned(), local, remote, target, sequence: 0 })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::gb28181::turn::Scratch;
    use crate::poll::Poll;
    use crate::tally::Tally;

    pub fn identity() -> Identity {
        Identity {
            device: "34020000001110000001".to_owned(),
            server_id: "34020000002000000001".to_owned(),
            domain: "3402000000".to_owned(),
            local: "127.0.0.1:5070".parse().unwrap(),
            tcp: false,
            compact: false,
            twice: false,
            nat: false,
        }
    }

    /// Runs something at a time, and gives back what was sent.
    pub fn at<T>(now: u64, run: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Vec<Message>, Vec<serde_json::Value>) {
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let (poll, mut tally, mut scratch) = (Poll::new().unwrap(), Tally::new(1), Scratch::new());
        let mut turn =
            Turn { now, poll: &poll, device: 0, out: &mut out, events: &mut events, tally: &mut tally, scratch: &mut scratch };
        let result = run(&mut turn);
        (result, out.iter().map(|bytes| Message::parse(bytes).unwrap()).collect(), events)
    }

    #[test]
    fn requests_are_repeated_until_they_are_answered() {
        let mut agent = Agent::new(identity(), 7, 1);
        let request = agent.fresh("MESSAGE", "sip:a@b", "c", "sip:a@b");
        let ((), sent, _) = at(0, |turn| agent.send(&request, Why::Keepalive, turn));
        assert_eq!((sent.len(), Agent::number_of(&sent[0])), (1, Some(7)));
        let mut now = 0;
        let mut times = Vec::new();
        while agent.next_due() < 12 * NANOS_PER_SECOND {
            now = agent.next_due();
            let (over, sent, _) = at(now, |turn| agent.timeout(turn));
            assert_eq!((over, &sent), (vec![], &vec![request.clone().with("Content-Length", "0")]));
            times.push(now as f64 / 1e9);
        }
        assert_eq!(times, [0.5, 1.5, 3.5, 7.5, 11.5]);
        assert_eq!(agent.answered(&Message::response(&request, 100, "Trying")), None);
        assert_eq!(agent.answered(&Message::response(&request, 200, "OK")), Some(Why::Keepalive));
        assert_eq!((agent.next_due(), agent.answered(&Message::response(&request, 200, "OK"))), (u64::MAX, None));
        at(now, |turn| agent.send(&request, Why::Bye, turn));
        let (over, ..) = at(now + TIMEOUT, |turn| agent.timeout(turn));
        assert_eq!(over, [Why::Bye]);
    }

    #[test]
    fn repeated_requests_are_answered_as_before() {
        let mut agent = Agent::new(Identity { twice: true, ..identity() }, 0, 1);
        let request = Message::request("BYE", "sip:a@b").with("Via", "SIP/2.0/UDP h;branch=z9hG4bK1").with("CSeq", "2 BYE");
        assert!(!at(0, |turn| agent.is_repeated(&request, turn)).0);
        let (_, sent, _) = at(0, |turn| agent.respond(&request, &Message::response(&request, 481, "Gone"), turn));
        assert_eq!(sent.len(), 2, "this one says all twice");
        let (repeated, again, _) = at(1, |turn| agent.is_repeated(&request, turn));
        assert_eq!((repeated, again.len(), again[0].status()), (true, 1, Some(481)));
    }

    #[test]
    fn a_device_behind_nat_tells_the_wrong_address() {
        let mut agent = Agent::new(Identity { nat: true, tcp: true, ..identity() }, 0, 1);
        let request = agent.fresh("REGISTER", "sip:a@b", "c", "sip:c@d");
        assert!(request.header("Via").unwrap().starts_with("SIP/2.0/TCP 192.0.2.10:5060;rport;"));
        assert_eq!(agent.identity.contact(), "<sip:34020000001110000001@192.0.2.10:5060>");
    }
}
