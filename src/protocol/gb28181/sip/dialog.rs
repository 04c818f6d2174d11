//! What stays the same in the requests of a call or a subscription: RFC 3261 §12, RFC 6665 §4.4.
//!
//! Made by either side's first request and its answer. A request in a dialog is addressed to the other side's Contact, and sent the way
//! that it was last heard of: a Contact behind a router leads nowhere. Owns its texts. Not here: who keeps dialogs, and transactions.

use super::headers::{Address, CSeq};
use super::message::{Method, Request, Response};

/// By which a dialog is found: its Call-ID, and our tag where the other side has chosen the Call-ID, which may be another's as well.
pub type DialogKey = (String, Option<String>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub call_id: String,
    /// Values of From and To as we write them, with their tags.
    local: String,
    remote: String,
    /// The address of requests.
    target: String,
    /// Our own Contact.
    contact: Option<String>,
    routes: Vec<String>,
    /// Numbers of the last requests.
    local_number: u32,
    remote_number: Option<u32>,
    /// The number of the request of ours that began it, which an ACK has as well.
    first_number: u32,
}

impl Dialog {
    /// Begun by `request` of ours, answered with `response`. `None`: either lacks what is needed.
    pub fn of_answer(request: &Request, response: &Response) -> Option<Self> {
        // The request has no Via before it is sent.
        let (call_id, number) = (request.headers.get("Call-ID")?, CSeq::parse(request.headers.get("CSeq")?)?.number);
        if response.identity()?.call_id != call_id {
            return None;
        }
        // RFC 3261 §12.1.2: the way back is the other way round.
        let mut routes: Vec<String> = response.headers.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        Some(Dialog {
            call_id: call_id.to_owned(),
            local: request.headers.get("From")?.to_owned(),
            remote: response.headers.get("To")?.to_owned(),
            target: contact_uri(response.headers.get("Contact")).unwrap_or_else(|| request.uri.clone()),
            contact: request.headers.get("Contact").map(str::to_owned),
            routes,
            local_number: number,
            remote_number: None,
            first_number: number,
        })
    }

    /// Begun by `request` of the other side, answered by us with `response`.
    pub fn of_request(request: &Request, response: &Response) -> Option<Self> {
        let identity = request.identity()?;
        Some(Dialog {
            call_id: identity.call_id.to_owned(),
            local: response.headers.get("To")?.to_owned(),
            remote: request.headers.get("From")?.to_owned(),
            target: contact_uri(request.headers.get("Contact")).unwrap_or_else(|| identity.from.uri.to_owned()),
            contact: response.headers.get("Contact").map(str::to_owned),
            routes: request.headers.all("Record-Route").map(str::to_owned).collect(),
            local_number: 0,
            remote_number: Some(identity.cseq.number),
            first_number: 0,
        })
    }

    /// The next request in it.
    pub fn request(&mut self, method: Method) -> Request {
        self.local_number += 1;
        self.numbered(method, self.local_number)
    }

    /// The ACK of the request that began it.
    pub fn ack(&self) -> Request {
        self.numbered(Method::Ack, self.first_number)
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let mut request = Request::new(method, &self.target);
        request.headers.push("From", &self.local);
        request.headers.push("To", &self.remote);
        request.headers.push("Call-ID", &self.call_id);
        let cseq = format!("{number} {}", request.method);
        request.headers.push("CSeq", &cseq);
        for route in &self.routes {
            request.headers.push("Route", route);
        }
        if let Some(contact) = &self.contact {
            request.headers.push("Contact", contact);
        }
        request
    }

    pub fn key(&self) -> DialogKey {
        let is_theirs = self.first_number == 0;
        (self.call_id.clone(), tag_of(&self.local).filter(|_| is_theirs).map(str::to_owned))
    }

    /// The keys of the dialogs that a request may belong to, if one of them [`Dialog::has`] it.
    pub fn keys_of(request: &Request) -> Option<[DialogKey; 2]> {
        let identity = request.identity()?;
        let call_id = identity.call_id.to_owned();
        let tag = identity.to.tag().unwrap_or_default().to_owned();
        Some([(call_id.clone(), Some(tag)), (call_id, None)])
    }

    /// Whether a request of the other side belongs to it. A tag that the other side has left out is no sign against it.
    pub fn has(&self, request: &Request) -> bool {
        let Some(identity) = request.identity() else { return false };
        let fits = |ours: &str, tag: Option<&str>| tag.is_none_or(|tag| tag_of(ours).is_none_or(|known| known == tag));
        identity.call_id == self.call_id && fits(&self.local, identity.to.tag()) && fits(&self.remote, identity.from.tag())
    }

    /// Takes the number of a request of the other side. `false`: it is older than another one, to be answered 500.
    pub fn take_number(&mut self, request: &Request) -> bool {
        let Some(identity) = request.identity() else { return false };
        let number = identity.cseq.number;
        let is_new = self.remote_number.is_none_or(|last| number > last);
        if is_new {
            self.remote_number = Some(number);
        }
        is_new
    }

    /// The tag of the other side has shown, in the NOTIFY before the answer or in an answer behind the first.
    pub fn learn_remote(&mut self, remote: &str) {
        if tag_of(&self.remote).is_none() && tag_of(remote).is_some() {
            remote.clone_into(&mut self.remote);
        }
    }
}

fn tag_of(value: &str) -> Option<&str> {
    Address::parse(value).and_then(|address| address.tag())
}

fn contact_uri(contact: Option<&str>) -> Option<String> {
    let uri = Address::parse(contact?)?.uri;
    (uri != "*").then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::gb28181::sip::message::Message;

    const INVITE: &str = "INVITE sip:34020000001310000001@192.0.2.10:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 198.51.100.1:5060;rport;branch=z9hG4bK7\r\n\
        From: <sip:34020000002000000001@3402000000>;tag=p1\r\n\
        To: <sip:34020000001310000001@192.0.2.10:5060>\r\n\
        Call-ID: c7\r\nCSeq: 20 INVITE\r\n\
        Contact: <sip:34020000002000000001@198.51.100.1:5060>\r\n\r\n";

    fn invite() -> Request {
        match Message::parse(INVITE.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn answer() -> Response {
        let mut answer = invite().response(200);
        answer.headers.set("To", "<sip:34020000001310000001@192.0.2.10:5060>;tag=d9");
        answer.headers.push("Contact", "<sip:34020000001310000001@192.168.1.64:5060>");
        answer.headers.push("Record-Route", "<sip:a;lr>");
        answer.headers.push("Record-Route", "<sip:b;lr>");
        answer
    }

    #[test]
    fn requests_in_a_call_that_we_began() {
        let mut dialog = Dialog::of_answer(&invite(), &answer()).unwrap();
        let ack = dialog.ack();
        assert_eq!(ack.uri, "sip:34020000001310000001@192.168.1.64:5060");
        assert_eq!(ack.identity(), None, "the Via is put in by the transaction");
        assert_eq!(ack.headers.get("CSeq"), Some("20 ACK"));
        assert_eq!(ack.headers.all("Route").collect::<Vec<_>>(), ["<sip:b;lr>", "<sip:a;lr>"]);
        let bye = dialog.request(Method::Bye);
        assert_eq!(CSeq::parse(bye.headers.get("CSeq").unwrap()), Some(CSeq { number: 21, method: Method::Bye }));
        assert_eq!(bye.headers.get("To"), Some("<sip:34020000001310000001@192.0.2.10:5060>;tag=d9"));
        assert_eq!(dialog.request(Method::Info).headers.get("CSeq"), Some("22 INFO"));
        let mut unsent = invite();
        unsent.headers.remove("Via");
        assert_eq!(Dialog::of_answer(&unsent, &answer()).unwrap().ack(), ack);
        let mut lost = answer();
        lost.headers.set("Call-ID", "c8");
        assert_eq!(Dialog::of_answer(&invite(), &lost), None);
        lost.headers.remove("CSeq");
        assert_eq!(Dialog::of_answer(&invite(), &lost), None);
    }

    #[test]
    fn a_dialog_is_found_by_our_tag_where_its_name_is_not_ours() {
        let (ours, theirs) =
            (Dialog::of_answer(&invite(), &answer()).unwrap(), Dialog::of_request(&invite(), &answer()).unwrap());
        let bye = |to: &str| {
            let mut bye = invite();
            bye.headers.set("To", to);
            Dialog::keys_of(&bye).unwrap()
        };
        let cases = [("<sip:a@b>;tag=d9", true, true), ("<sip:a@b>", true, false), ("<sip:a@b>;tag=d8", true, false)];
        for (to, finds_ours, finds_theirs) in cases {
            assert_eq!((bye(to).contains(&ours.key()), bye(to).contains(&theirs.key())), (finds_ours, finds_theirs), "{to}");
        }
    }

    #[test]
    fn requests_of_the_other_side() {
        let mut dialog = Dialog::of_request(&invite(), &answer()).unwrap();
        assert_eq!(dialog.request(Method::Bye).uri, "sip:34020000002000000001@198.51.100.1:5060");
        let request = |call_id: &str, to: &str, from: &str, number: u32| {
            let mut bye = Request::new(Method::Bye, "sip:x@y");
            bye.headers.push("Via", "SIP/2.0/UDP h;branch=z9hG4bK8");
            bye.headers.push("From", from);
            bye.headers.push("To", to);
            bye.headers.push("Call-ID", call_id);
            bye.headers.push("CSeq", &format!("{number} BYE"));
            bye
        };
        let cases = [
            ("as it must be", request("c7", "<sip:a@b>;tag=d9", "<sip:c@d>;tag=p1", 21), true),
            ("without tags", request("c7", "<sip:a@b>", "<sip:c@d>", 21), true),
            ("another call", request("c6", "<sip:a@b>;tag=d9", "<sip:c@d>;tag=p1", 21), false),
            ("another tag of ours", request("c7", "<sip:a@b>;tag=d8", "<sip:c@d>;tag=p1", 21), false),
            ("another tag of theirs", request("c7", "<sip:a@b>;tag=d9", "<sip:c@d>;tag=p2", 21), false),
        ];
        for (name, request, expected) in &cases {
            assert_eq!(dialog.has(request), *expected, "{name}");
        }
        assert!(dialog.take_number(&cases[0].1));
        assert!(!dialog.take_number(&cases[0].1));
    }
}
