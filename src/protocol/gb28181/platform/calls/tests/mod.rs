//! Calls with a scripted device, over the real transactions and in virtual time.

mod ends;
mod receiving;
mod recorded;
mod talking;

use crate::config::MediaTransport;
use crate::protocol::gb28181::platform::ask::{Answer, Ask, CallOptions, Channel};
use crate::protocol::gb28181::platform::tests::{CAMERA, NVR, World};
use crate::protocol::gb28181::platform::view::{CallState, CallView};
use crate::protocol::gb28181::platform::{CallId, Input, Ticket};
use crate::protocol::gb28181::sip::message::{Message, Method, Request, Response};
use crate::session::StreamKey;

/// The name of the camera's stream.
const KEY: &str = "gb/34020000001110000001/34020000001310000001";

fn camera() -> Channel {
    Channel { device: NVR.to_owned(), channel: CAMERA.to_owned() }
}

fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).unwrap()
}

fn over(transport: MediaTransport) -> CallOptions {
    CallOptions { transport: Some(transport), stream_number: None }
}

/// What a device answers to an INVITE that asks it to connect.
const ANSWER: &str = "v=0\r\no=34020000001310000001 0 0 IN IP4 192.168.1.64\r\ns=Play\r\nc=IN IP4 192.168.1.64\r\nt=0 0\r\n\
    m=video 15060 TCP/RTP/AVP 96\r\na=sendonly\r\na=rtpmap:96 PS/90000\r\na=setup:active\r\na=connection:new\r\n";

/// What the device answers, as one that is behind a router.
fn answer_of(invite: &Request, status: u16, sdp: &str) -> Response {
    let mut answer = invite.response(status);
    answer.headers.push("Contact", &format!("<sip:{CAMERA}@192.168.1.64:5060>"));
    if !sdp.is_empty() {
        answer.set_body("APPLICATION/SDP", sdp.to_owned());
    }
    answer
}

impl World {
    /// The operator plays the camera, and its receiver is open: the INVITE, and who waits.
    fn invited(&mut self) -> (Ticket, Request) {
        self.sent.clear();
        let ticket = self.ask(Ask::Play { of: camera(), options: CallOptions::default() });
        let call = self.call().id;
        self.tell(Input::ReceiverOpened { call, port: Ok(30_000) });
        let invite = self.sent_request(Method::Invite);
        self.media();
        (ticket, invite)
    }

    /// As far as media may come.
    fn answered(&mut self) -> Request {
        let (ticket, invite) = self.invited();
        self.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
        assert!(matches!(self.answer_to(ticket), Some(Answer::Call(_))));
        assert_eq!(self.words(), ["ACK"]);
        invite
    }

    /// A request of the device in the call that `invite` of ours began, and the answer to it.
    fn in_call(&mut self, invite: &Request, method: Method, number: u32) -> Response {
        let (platform, device) = (invite.headers.get("From").unwrap(), answer_of(invite, 200, ""));
        let request = self.request_of(CAMERA, method, |request| {
            request.headers.set("From", device.headers.get("To").unwrap());
            request.headers.set("To", platform);
            request.headers.set("Call-ID", invite.headers.get("Call-ID").unwrap());
            let cseq = format!("{number} {}", request.method);
            request.headers.set("CSeq", &cseq);
        });
        self.receive(&request.to_bytes());
        let of_it = |(at, (_, message)): (usize, &(_, Message))| match message {
            Message::Response(response) if response.headers.get("Via") == request_via(&request).as_deref() => Some(at),
            _ => None,
        };
        let at = self.sent.iter().enumerate().filter_map(of_it).last().expect("an answer");
        match self.sent.remove(at).1 {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request:?}"),
        }
    }

    fn state(&mut self) -> (CallState, String) {
        let CallView { state, detail, .. } = self.call();
        (state, detail)
    }

    /// Why the newest call was counted as failed.
    fn reason(&self) -> Option<&'static str> {
        self.notes.last().and_then(|(_, reason, _)| *reason)
    }
}

/// As it stands in the answer: where the packet came from is noted.
fn request_via(request: &Request) -> Option<String> {
    let branch = request.identity()?.via.branch()?.to_owned();
    Some(format!("SIP/2.0/UDP 192.168.1.64:5060;rport=6000;branch={branch};received=192.0.2.10"))
}

#[track_caller]
fn call_of(answer: Option<Answer>) -> CallView {
    match answer {
        Some(Answer::Call(call)) => *call,
        other => panic!("{other:?}"),
    }
}

fn stop(world: &mut World, call: u64) -> Answer {
    world.answer(Ask::Stop(CallId(call)))
}
