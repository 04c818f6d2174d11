//! What the parts of the platform work with while they handle one input: the time, the settings, SIP, and where outputs go.

use super::ask::Answer;
use super::{Clock, Output, Ticket};
use crate::config::Gb28181;
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{self, Charset};
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::{Method, Request, Response};
use crate::protocol::gb28181::sip::tokens::Tokens;
use crate::protocol::gb28181::sip::transaction::{ClientId, ServerId, Transactions};

/// The Content-Type of MANSCDP bodies.
pub const MANSCDP_TYPE: &str = "Application/MANSCDP+xml";

pub struct Context<'a> {
    pub clock: Clock,
    pub settings: &'a Gb28181,
    pub transactions: &'a mut Transactions,
    pub tokens: &'a mut Tokens,
    pub out: &'a mut Vec<Output>,
}

impl Context<'_> {
    pub fn now(&self) -> Stamp {
        self.clock.now
    }

    pub fn respond(&mut self, id: ServerId, response: &Response) {
        self.transactions.respond(self.clock.now, id, response);
    }

    /// Answers a request of which nothing is to be kept, as its source may be another's: sent once.
    pub fn respond_once(&mut self, id: ServerId, response: &Response) {
        self.transactions.respond_once(id, response);
    }

    /// Sends a request other than INVITE, which is waited for as long as configured. `None`: too many are under way.
    pub fn send(&mut self, hop: Hop, request: Request) -> Option<ClientId> {
        self.transactions.request(self.clock.now, hop, request, self.settings.answer_ms)
    }

    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.out.push(Output::Answer { ticket, answer });
    }

    pub fn note(&mut self, level: log::Level, reason: Option<&'static str>, message: impl Into<String>) {
        self.out.push(Output::Note { level, reason, message: message.into() });
    }

    /// Our own address in requests, as `sip:34020000002000000001@198.51.100.1:5060`.
    pub fn own_uri(&self, hop: &Hop) -> String {
        let mut local = hop.local;
        if let Some(address) = self.settings.address {
            local.set_ip(address);
        }
        format!("sip:{}@{local}", self.settings.id)
    }

    /// A request outside of any dialog to the device or channel `user` at the other end of `hop`.
    pub fn request(&mut self, method: Method, hop: &Hop, user: &str) -> Request {
        let uri = format!("sip:{user}@{}", hop.peer);
        let mut request = Request::new(method, &uri);
        let from = format!("<sip:{}@{}>;tag={}", self.settings.id, self.settings.domain, self.tokens.make());
        request.headers.push("From", &from);
        request.headers.push("To", &format!("<{uri}>"));
        request.headers.push("Call-ID", &self.tokens.make());
        request.headers.push("CSeq", &format!("1 {}", request.method));
        request.headers.push("Contact", &format!("<{}>", self.own_uri(hop)));
        request
    }

    /// A MESSAGE with a MANSCDP body; see [`Context::send`].
    pub fn send_message(&mut self, hop: Hop, user: &str, message: &manscdp::Message, charset: Charset) -> Option<ClientId> {
        let mut request = self.request(Method::Message, &hop, user);
        request.set_body(MANSCDP_TYPE, manscdp::encode(message, charset));
        self.send(hop, request)
    }
}
