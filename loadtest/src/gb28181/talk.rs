//! Broadcasts: the platform calls, the device invites it, and receives sound (GB/T 28181 §9.12). What came is told as counts and as the
//! MD5 of all payloads, one behind the other.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::agent::{Dialog, T1, Why};
use super::args::TalkTransport;
use super::device::{Device, Queued};
use super::digest::hex_of;
use super::rtp;
use super::sdp::{self, Description, Transport};
use super::sip::{Message, uri};
use super::turn::Turn;
use super::xml::element;

enum Way {
    Udp(UdpSocket),
    Listener(TcpListener),
    Stream(TcpStream),
    /// Connects when it is known where to.
    None,
}

/// RTP in, payloads counted.
#[derive(Default)]
struct Heard {
    packets: u64,
    bytes: u64,
    hash: Md5,
    payload_type: Option<u8>,
    /// Of a connection: what is not a whole packet yet.
    kept: Vec<u8>,
}

impl Heard {
    fn packet(&mut self, packet: &[u8]) {
        if let Some(payload) = rtp::payload(packet) {
            self.packets += 1;
            self.bytes += payload.len() as u64;
            self.hash.update(payload);
            self.payload_type = packet.get(1).map(|byte| byte & 0x7F);
        }
    }

    /// Packets behind their lengths (RFC 4571).
    fn stream(&mut self, bytes: &[u8]) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend_from_slice(bytes);
        let mut rest = &kept[..];
        while let Some((length, behind)) = rest.split_first_chunk()
            && let Some((packet, behind)) = behind.split_at_checked(u16::from_be_bytes(*length).into())
        {
            self.packet(packet);
            rest = behind;
        }
        self.kept = rest.to_vec();
    }

    fn json(&self) -> Value {
        let md5 = hex_of(&self.hash.clone().finalize());
        json!({ "packets": self.packets, "bytes": self.bytes, "md5": md5, "payload_type": self.payload_type })
    }
}

pub struct Talk {
    dialog: Dialog,
    invite: Message,
    way: Way,
    transport: Transport,
    heard: Heard,
    /// Packets when it was told of last, and when that is done next.
    told: u64,
    tell_at: u64,
}

impl Talk {
    pub fn next_due(&self) -> u64 {
        self.tell_at
    }
}

impl Device {
    /// The platform calls.
    pub fn broadcast(&mut self, text: &str, sn: &str, turn: &mut Turn<'_>) {
        let (source, target) = (element(text, "SourceID").unwrap_or_default(), element(text, "TargetID").unwrap_or_default());
        self.tell("broadcast", json!({ "source": source, "target": target }), turn);
        let (source, target) = (source.to_owned(), target.to_owned());
        let body = self.inventory.result("Broadcast", sn, &target);
        self.queue(Queued::Body(body), turn);
        self.queue(Queued::Broadcast { source, target }, turn);
    }

    pub fn invite_to_broadcast(&mut self, source: &str, target: &str, turn: &mut Turn<'_>) {
        let invited = self.send_invite(source, target, turn);
        if let Err(error) = invited {
            self.tell("failed", json!({ "error": error.to_string() }), turn);
        }
    }

    fn send_invite(&mut self, source: &str, target: &str, turn: &mut Turn<'_>) -> io::Result<()> {
        let here = SocketAddr::new(self.agent.identity.local.ip(), 0);
        let (way, transport, local) = match self.settings.args.talk {
            TalkTransport::Udp => {
                let socket = UdpSocket::bind(here)?;
                socket.set_nonblocking(true)?;
                let local = socket.local_addr()?;
                turn.poll.add(socket.as_raw_fd(), turn.token(Device::talk_slot()), false)?;
                (Way::Udp(socket), Transport::Udp, local)
            }
            TalkTransport::TcpListen => {
                let listener = TcpListener::bind(here)?;
                listener.set_nonblocking(true)?;
                let local = listener.local_addr()?;
                turn.poll.add(listener.as_raw_fd(), turn.token(Device::talk_slot()), false)?;
                (Way::Listener(listener), Transport::Listen, local)
            }
            TalkTransport::TcpConnect => (Way::None, Transport::Connect, here),
        };
        let address = self.agent.identity.address(source);
        let body = sdp::broadcast_offer(target, local, transport);
        let invite = self.agent.fresh("INVITE", &address, target, &address);
        let invite = invite
            .with("Contact", self.agent.identity.contact())
            .with("Subject", format!("{source}:0200000999,{target}:0"))
            .with_body("APPLICATION/SDP", body);
        self.agent.send(&invite, Why::Broadcast, turn);
        let dialog = Dialog {
            call_id: invite.header("Call-ID").unwrap_or_default().to_owned(),
            local: invite.header("From").unwrap_or_default().to_owned(),
            remote: invite.header("To").unwrap_or_default().to_owned(),
            target: address,
            sequence: 1,
        };
        self.talk = Some(Talk { dialog, invite, way, transport, heard: Heard::default(), told: 0, tell_at: u64::MAX });
        Ok(())
    }

    pub fn broadcast_answered(&mut self, response: &Message, turn: &mut Turn<'_>) {
        let Some(talk) = &mut self.talk else { return };
        let status = response.status().unwrap_or(0);
        if !(200..300).contains(&status) {
            let ack = acknowledgement(&talk.invite, response, None);
            self.agent.put(&ack, turn);
            self.talk = None;
            return self.tell("broadcast_refused", json!({ "status": status }), turn);
        }
        talk.dialog.remote = response.header("To").unwrap_or_default().to_owned();
        if let Some(contact) = response.header("Contact") {
            talk.dialog.target = uri(contact).to_owned();
        }
        talk.tell_at = turn.now + T1;
        let answer = Description::parse(&response.body);
        let connected = match (&answer, talk.transport) {
            (Some(answer), Transport::Connect) => TcpStream::connect(answer.address).and_then(|stream| {
                stream.set_nonblocking(true)?;
                turn.poll.add(stream.as_raw_fd(), turn.token(Device::talk_slot()), false)?;
                talk.way = Way::Stream(stream);
                Ok(())
            }),
            _ => Ok(()),
        };
        // The ACK itself went when the answer came.
        let answer =
            answer.map(|answer| json!({ "address": answer.address, "ssrc": answer.ssrc, "types": answer.payload_types }));
        let error = connected.err().map(|error| error.to_string());
        self.tell("broadcast_agreed", json!({ "answer": answer, "error": error }), turn);
    }

    /// A 2xx is acknowledged each time that it comes (RFC 3261 §13.2.2.4).
    pub fn acknowledge_again(&mut self, response: &Message, turn: &mut Turn<'_>) {
        let is_ok = response.status().is_some_and(|status| (200..300).contains(&status));
        let Some(talk) = self.talk.as_ref().filter(|_| is_ok) else { return };
        let is_invite = response.sequence().is_some_and(|(_, method)| method == "INVITE");
        if is_invite && response.header("Call-ID") == Some(&talk.dialog.call_id) {
            let target = response.header("Contact").map_or(talk.dialog.target.as_str(), uri);
            let mut ack = acknowledgement(&talk.invite, response, Some(target));
            let word = self.agent.random.word();
            ack.change("Via", |via| *via = via.replacen("branch=z9hG4bKd", &format!("branch=z9hG4bKa{word}d"), 1));
            self.agent.put(&ack, turn);
        }
    }

    pub fn ends_talk(&self, request: &Message) -> bool {
        self.talk.as_ref().is_some_and(|talk| request.header("Call-ID") == Some(&talk.dialog.call_id))
    }

    pub fn end_talk(&mut self, turn: &mut Turn<'_>) {
        // What came before the goodbye counts.
        self.talk_ready(turn);
        if let Some(talk) = self.talk.take() {
            self.tell("talk_ended", talk.heard.json(), turn);
        }
    }

    pub fn hang_up_talk(&mut self, turn: &mut Turn<'_>) {
        if let Some(talk) = &mut self.talk {
            let request = self.agent.in_dialog("BYE", &mut talk.dialog);
            self.agent.send(&request, Why::Bye, turn);
            self.end_talk(turn);
        }
    }

    pub fn talk_due(&mut self, turn: &mut Turn<'_>) {
        let Some(talk) = self.talk.as_mut().filter(|talk| talk.tell_at <= turn.now) else { return };
        talk.tell_at = turn.now + T1;
        if std::mem::replace(&mut talk.told, talk.heard.packets) != talk.heard.packets {
            let heard = talk.heard.json();
            self.tell("talk", heard, turn);
        }
    }

    /// Takes all that has come.
    pub fn talk_ready(&mut self, turn: &mut Turn<'_>) {
        let Some(talk) = &mut self.talk else { return };
        let buffer = &mut turn.scratch.stream;
        loop {
            match &mut talk.way {
                Way::Udp(socket) => match socket.recv(buffer) {
                    Ok(count) => talk.heard.packet(&buffer[..count]),
                    Err(_) => return,
                },
                Way::Stream(stream) => match stream.read(buffer) {
                    Ok(0) => return talk.way = Way::None,
                    Ok(count) => talk.heard.stream(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => return talk.way = Way::None,
                },
                Way::Listener(listener) => {
                    let Ok((stream, _)) = listener.accept() else { return };
                    let watched = stream.set_nonblocking(true);
                    let token = Device::talk_slot();
                    if watched.is_err()
                        || turn
                            .poll
                            .add(stream.as_raw_fd(), crate::poll::Token::Device { at: turn.device, socket: token }, false)
                            .is_err()
                    {
                        return;
                    }
                    talk.way = Way::Stream(stream);
                }
                Way::None => return,
            }
        }
    }
}

/// `target`: of a 2xx, which has its own transaction; `None`: of a refusal, within that of the invitation (RFC 3261 §17.1.1.3).
fn acknowledgement(invite: &Message, response: &Message, target: Option<&str>) -> Message {
    let same = match &invite.start {
        super::sip::Start::Request { uri, .. } => uri.as_str(),
        super::sip::Start::Response { .. } => "",
    };
    let of = |message: &Message, name: &str| message.header(name).unwrap_or_default().to_owned();
    let number = invite.sequence().map_or(1, |(number, _)| number);
    Message::request("ACK", target.unwrap_or(same))
        .with("Via", of(invite, "Via"))
        .with("From", of(invite, "From"))
        .with("To", of(response, "To"))
        .with("Call-ID", of(invite, "Call-ID"))
        .with("CSeq", format!("{number} ACK"))
        .with("Max-Forwards", "70")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gb28181::sip::parameter;

    #[test]
    fn what_is_heard_is_counted_whole() {
        let packet = |payload: &[u8]| [&[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], payload].concat();
        let mut datagrams = Heard::default();
        datagrams.packet(&packet(b"ab"));
        datagrams.packet(&packet(b"c"));
        datagrams.packet(&[1, 2, 3]);
        // echo -n abc | md5sum
        let expected = json!({ "packets": 2, "bytes": 3, "md5": "900150983cd24fb0d6963f7d28e17f72", "payload_type": 8 });
        assert_eq!(datagrams.json(), expected);
        let framed: Vec<u8> = [packet(b"ab"), packet(b"c")]
            .iter()
            .flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat())
            .collect();
        for cut in 0..framed.len() {
            let mut stream = Heard::default();
            stream.stream(&framed[..cut]);
            stream.stream(&framed[cut..]);
            assert_eq!(stream.json(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_is_acknowledged_in_its_own_transaction() {
        let invite =
            Message::request("INVITE", "sip:a@b").with("Via", "v;branch=z9hG4bKd0-1").with("CSeq", "4 INVITE").with("From", "f");
        let response = Message::response(&invite, 486, "Busy").with("To", "t;tag=9");
        let ack = acknowledgement(&invite, &response, None);
        assert_eq!((ack.branch(), ack.sequence()), (Some("z9hG4bKd0-1"), Some((4, "ACK"))));
        assert_eq!(ack.header("To").and_then(|to| parameter(to, "tag")), Some("9"));
    }
}
