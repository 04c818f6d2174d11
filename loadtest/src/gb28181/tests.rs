//! Devices against a platform that the tests play, message by message; media over the loopback.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use super::agent::tests::at;
use super::agent::{T1, TIMEOUT};
use super::device::{Device, Settings};
use super::media::Media;
use super::registration::State;
use super::sip::{Message, Start};
use super::turn::Turn;
use super::xml::{decode, element};
use crate::args::{Action, Args};
use crate::clip::Shape;
use crate::poll::NANOS_PER_SECOND;

const CHANNEL: &str = "34020000001310000001";
const SHAPE: Shape = Shape { frames_per_second: 30, gop_ms: 1000, bits_per_second: 800_000 };

/// A device, and the clock of its world.
struct World {
    device: Device,
    now: u64,
    sequence: u32,
}

impl World {
    fn new(options: &str) -> World {
        let words = ["loadtest", "gb28181-device", "--password", "secret"].into_iter().chain(options.split_whitespace());
        let Some(Action::Gb28181Device(args)) = Args::try_parse_from(words).unwrap().action else { panic!("a device") };
        let quirks = super::args::Quirks::of(&args.quirk);
        let settings = Settings { args: *args, quirks, clips: vec![Rc::new(Media::from_clip(SHAPE))] };
        let device = Device::new(Rc::new(settings), 0, "127.0.0.1:5070".parse().unwrap(), 1);
        World { device, now: crate::poll::now(), sequence: 0 }
    }

    fn run<T>(&mut self, run: impl FnOnce(&mut Device, &mut Turn<'_>) -> T) -> (Vec<Message>, Vec<Value>) {
        let device = &mut self.device;
        let (_, sent, events) = at(self.now, |turn| run(device, turn));
        (sent, events)
    }

    /// Lets the device do what it does next.
    fn next(&mut self) -> (Vec<Message>, Vec<Value>) {
        self.now = self.device.next_due().max(self.now);
        self.run(|device, turn| device.timeout(turn))
    }

    fn give(&mut self, message: &Message) -> (Vec<Message>, Vec<Value>) {
        self.run(|device, turn| device.message(message, turn))
    }

    fn answer(&mut self, request: &Message, status: u16) -> (Vec<Message>, Vec<Value>) {
        self.give(&Message::response(request, status, "-"))
    }

    fn request(&mut self, method: &str, target: &str, call_id: &str) -> Message {
        self.sequence += 1;
        Message::request(method, &format!("sip:{target}@127.0.0.1:5070"))
            .with("Via", format!("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK{}", self.sequence))
            .with("From", "<sip:34020000002000000001@3402000000>;tag=p")
            .with("To", format!("<sip:{target}@3402000000>"))
            .with("Call-ID", call_id)
            .with("CSeq", format!("{} {method}", self.sequence))
            .with("Contact", "<sip:34020000002000000001@127.0.0.1:5060>")
    }

    fn manscdp(&mut self, text: &str) -> (Vec<Message>, Vec<Value>) {
        let target = element(text, "DeviceID").unwrap_or(CHANNEL).to_owned();
        let request = self.request("MESSAGE", &target, "query").with_body("Application/MANSCDP+xml", text.as_bytes().to_vec());
        self.give(&request)
    }

    fn offer(&mut self, purpose: &str, media: &str, address: SocketAddr) -> Message {
        let sdp = format!(
            "v=0\r\no=p 0 0 IN IP4 {ip}\r\ns={purpose}\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=video {} {media} 96\r\na=recvonly\r\ny=0200000001\r\n",
            address.port(),
            ip = address.ip()
        );
        self.request("INVITE", CHANNEL, "call").with_body("APPLICATION/SDP", sdp.into_bytes())
    }

    /// Runs what is due for some time of the device's, which is that of this machine.
    fn play(&mut self, millis: u64) -> Vec<Value> {
        let mut told = Vec::new();
        let until = crate::poll::now() + millis * 1_000_000;
        while self.device.next_due() < until {
            std::thread::sleep(Duration::from_nanos(self.device.next_due().saturating_sub(crate::poll::now())));
            self.now = crate::poll::now();
            told.extend(self.run(|device, turn| device.timeout(turn)).1);
        }
        told
    }
}

fn statuses(sent: &[Message]) -> Vec<u16> {
    sent.iter().filter_map(Message::status).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[test]
fn a_device_registers_refreshes_and_leaves() {
    let mut world = World::new("--expires 100 --keepalive-ms 60000");
    let (sent, _) = world.run(|device, turn| device.register_now(turn));
    assert_eq!(
        (sent[0].method(), sent[0].header("Expires"), sent[0].header("Authorization")),
        (Some("REGISTER"), Some("100"), None)
    );
    let challenge =
        Message::response(&sent[0], 401, "-").with("WWW-Authenticate", "Digest realm=\"3402000000\",nonce=\"n\",algorithm=MD5");
    let (sent, _) = world.give(&challenge);
    let digest = sent[0].header("Authorization").unwrap();
    assert!(
        digest.contains("username=\"34020000001110000001\"") && digest.contains("uri=\"sip:34020000002000000001@3402000000\"")
    );
    let (_, events) = world.answer(&sent[0], 200);
    assert_eq!((names(&events), world.device.registration.state), (vec!["registered"], State::On));
    let began = world.now;
    let (keepalive, _) = world.next();
    assert_eq!((world.now - began, keepalive[0].method()), (60 * NANOS_PER_SECOND, Some("MESSAGE")));
    assert_eq!(element(&decode(&keepalive[0].body), "CmdType"), Some("Keepalive"));
    world.answer(&keepalive[0], 200);
    let (refresh, _) = world.next();
    assert_eq!((world.now - began, refresh[0].method()), (75 * NANOS_PER_SECOND, Some("REGISTER")));
    assert!(refresh[0].header("Authorization").is_some(), "the nonce is used again");
    assert_eq!(names(&world.answer(&refresh[0], 200).1), ["refreshed"]);
    let (leave, _) = world.run(|device, turn| device.unregister(turn));
    assert_eq!(leave[0].header("Expires"), Some("0"));
    assert_eq!(names(&world.answer(&leave[0], 200).1), ["unregistered"]);
    assert_eq!(world.device.next_due(), u64::MAX);
}

#[test]
fn who_is_refused_or_forgotten_tries_again_later_or_at_once() {
    let mut world = World::new("--retry-ms 5000");
    let (sent, _) = world.run(|device, turn| device.register_now(turn));
    let challenge =
        |request: &Message| Message::response(request, 401, "-").with("WWW-Authenticate", "Digest realm=\"r\",nonce=\"n\"");
    let (sent, _) = world.give(&challenge(&sent[0]));
    let (_, events) = world.give(&challenge(&sent[0]));
    assert_eq!((names(&events), events[0]["status"].as_u64()), (vec!["refused"], Some(401)));
    let began = world.now;
    let (sent, _) = world.next();
    assert_eq!((world.now - began, sent[0].method()), (5 * NANOS_PER_SECOND, Some("REGISTER")));
    world.answer(&sent[0], 200);
    let (keepalive, _) = world.next();
    let (again, events) = world.answer(&keepalive[0], 403);
    assert_eq!((names(&events), again[0].method()), (vec!["forgotten"], Some("REGISTER")));
}

#[test]
fn long_answers_wait_for_each_other() {
    let mut world = World::new("--channels 3 --speaker --items 2");
    let (sent, events) =
        world.manscdp("<Query><CmdType>Catalog</CmdType><SN>4</SN><DeviceID>34020000001110000001</DeviceID></Query>");
    assert_eq!((statuses(&sent), names(&events)), (vec![200], vec!["query"]));
    assert_eq!(sent.len(), 2, "the answer, and the first part");
    let first = decode(&sent[1].body);
    assert!(first.contains("<SumNum>4</SumNum>") && first.contains("摄像机1") && !first.contains("摄像机3"), "{first}");
    let (second, _) = world.answer(&sent[1], 200);
    let second = decode(&second[0].body);
    assert!(second.contains("摄像机3") && second.contains("34020000001370000001"), "{second}");
}

#[test]
fn commands_are_told_with_their_bytes() {
    let mut world = World::new("");
    let control = |field: &str| {
        format!("<Control><CmdType>DeviceControl</CmdType><SN>19</SN><DeviceID>{CHANNEL}</DeviceID>{field}</Control>")
    };
    for (field, command, value, answers) in [
        ("<PTZCmd>A50F0101400000F6</PTZCmd>", "ptz", "A50F0101400000F6", 0),
        ("<RecordCmd>Record</RecordCmd>", "record", "Record", 1),
        ("<IFameCmd>Send</IFameCmd>", "key_frame", "Send", 0),
        ("<TeleBoot>Boot</TeleBoot>", "boot", "Boot", 0),
    ] {
        let (sent, events) = world.manscdp(&control(field));
        assert_eq!((events[0]["command"].as_str(), events[0]["value"].as_str()), (Some(command), Some(value)));
        assert_eq!(sent.iter().filter(|message| message.method() == Some("MESSAGE")).count(), answers, "{field}");
        sent.iter().filter(|message| message.method().is_some()).for_each(|message| drop(world.answer(message, 200)));
    }
}

#[test]
fn a_call_sends_media_in_real_time_until_it_ends() {
    let mut world = World::new("");
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let invite = world.offer("Play", "RTP/AVP", receiver.local_addr().unwrap());
    let (sent, events) = world.give(&invite);
    assert_eq!((statuses(&sent), names(&events)), (vec![100, 200], vec!["invite"]));
    assert!(String::from_utf8_lossy(&sent[1].body).contains("y=0200000001"));
    let (again, _) = world.give(&invite);
    assert_eq!(again[0], sent[1], "a repeated invitation has the same answer");
    let (repeated, _) = world.next();
    assert_eq!(repeated[0], sent[1], "the answer is repeated until it is acknowledged");
    world.now = crate::poll::now();
    let ack = world.request("ACK", CHANNEL, "call");
    world.give(&ack);
    let told = world.play(500);
    assert_eq!(names(&told), ["media"]);
    receiver.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2000];
    let mut packets = Vec::new();
    while let Ok(count) = receiver.recv(&mut buffer) {
        packets.push(buffer[..count].to_vec());
    }
    assert_eq!((&packets[0][8..12], &packets[0][12..16]), (&200_000_001u32.to_be_bytes()[..], &[0, 0, 1, 0xBA][..]));
    let pictures = packets.windows(2).filter(|pair| pair[0][4..8] != pair[1][4..8]).count();
    assert!((10..60).contains(&pictures), "{pictures} units in half a second");
    let bye = world.request("BYE", CHANNEL, "call");
    let (sent, events) = world.give(&bye);
    assert_eq!((statuses(&sent), names(&events)), (vec![200], vec!["bye"]));
    assert_eq!(events[0]["sent"]["packets"].as_u64(), Some(packets.len() as u64));
    let bye = world.request("BYE", CHANNEL, "call");
    assert_eq!((statuses(&world.give(&bye).0), world.device.next_due()), (vec![481], u64::MAX));
}

#[test]
fn over_tcp_either_side_connects() {
    for setup in ["passive", "active"] {
        let mut world = World::new("");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut invite = world.offer("Play", "TCP/RTP/AVP", listener.local_addr().unwrap());
        invite.body.extend_from_slice(format!("a=setup:{setup}\r\na=connection:new\r\n").as_bytes());
        let (sent, _) = world.give(&invite);
        let answer = super::sdp::Description::parse(&sent[1].body).unwrap();
        let ack = world.request("ACK", CHANNEL, "call");
        world.give(&ack);
        let mut stream =
            if setup == "passive" { listener.accept().unwrap().0 } else { TcpStream::connect(answer.address).unwrap() };
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut head = [0; 18];
        for _ in 0..200 {
            world.now = crate::poll::now();
            world.run(|device, turn| {
                device.ready(Device::slot(0), turn);
                device.timeout(turn);
            });
            if stream.read_exact(&mut head).is_ok() {
                break;
            }
        }
        assert_eq!((&head[2..4], &head[14..]), (&[0x80, 96][..], &[0, 0, 1, 0xBA][..]), "{setup}");
    }
}

#[test]
fn invitations_are_refused_cancelled_or_answered_late() {
    let address = "127.0.0.1:9".parse().unwrap();
    for (options, expected) in
        [("--quirk busy", vec![486]), ("--quirk silent", vec![]), ("--quirk late-200 --late-ms 7000", vec![100])]
    {
        let mut world = World::new(options);
        let invite = world.offer("Play", "RTP/AVP", address);
        assert_eq!(statuses(&world.give(&invite).0), expected, "{options}");
    }
    let mut world = World::new("--quirk late-200 --late-ms 7000");
    let invite = world.offer("Play", "RTP/AVP", address);
    world.give(&invite);
    let cancel = world.request("CANCEL", CHANNEL, "call");
    assert_eq!(statuses(&world.give(&cancel).0), [200]);
    let began = world.now;
    let (sent, _) = world.next();
    assert_eq!((world.now - began, statuses(&sent)), (7 * NANOS_PER_SECOND, vec![200]));
    let mut unknown = world.offer("Play", "RTP/AVP", address);
    unknown.start = Start::Request { method: "INVITE".to_owned(), uri: "sip:1@h".to_owned() };
    unknown.change("Call-ID", |call_id| *call_id = "other".to_owned());
    assert_eq!(statuses(&world.give(&unknown).0), [404]);
}

#[test]
fn a_call_that_is_never_acknowledged_is_given_up() {
    let mut world = World::new("");
    let invite = world.offer("Play", "RTP/AVP", "127.0.0.1:9".parse().unwrap());
    world.give(&invite);
    let began = world.now;
    let mut last = Vec::new();
    while world.now < began + TIMEOUT {
        last = world.next().0;
    }
    assert_eq!(last.iter().filter_map(Message::method).collect::<Vec<_>>(), ["BYE"]);
}

#[test]
fn recordings_pause_seek_and_end() {
    let mut world = World::new("");
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let invite = world.offer("Playback", "RTP/AVP", receiver.local_addr().unwrap());
    world.give(&invite);
    let ack = world.request("ACK", CHANNEL, "call");
    world.give(&ack);
    world.play(100);
    let info = |world: &mut World, body: &str| {
        let request = world.request("INFO", CHANNEL, "call").with_body("Application/MANSRTSP", body.as_bytes().to_vec());
        world.now = crate::poll::now();
        let (sent, events) = world.give(&request);
        assert!(String::from_utf8_lossy(&sent[0].body).starts_with("RTSP/1.0 200 OK\r\nCSeq: 4\r\n"));
        events[0].clone()
    };
    let paused = info(&mut world, "PAUSE RTSP/1.0\r\nCSeq: 4\r\nPauseTime: now\r\n");
    assert_eq!((paused["command"].as_str(), world.device.next_due()), (Some("PAUSE"), u64::MAX));
    info(&mut world, "PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=now-\r\n");
    assert!(world.device.next_due() < u64::MAX);
    let fast = info(&mut world, "PLAY RTSP/1.0\r\nCSeq: 4\r\nScale: 4.0\r\n");
    assert_eq!(fast["scale"].as_str(), Some("4.0"));
    // Near the end: the clip has five seconds, and plays four times as fast.
    let there = info(&mut world, "PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=4-\r\n");
    assert_eq!(there["range"].as_str(), Some("npt=4-"));
    let told = world.play(1_500);
    assert_eq!(names(&told), ["played"]);
}

#[test]
fn subscribers_are_told() {
    let mut world = World::new("");
    let subscribe = |world: &mut World, command: &str, call_id: &str, expires: &str| {
        let body = format!("<Query><CmdType>{command}</CmdType><SN>1</SN><Interval>2</Interval></Query>");
        let request = world.request("SUBSCRIBE", "34020000001110000001", call_id);
        let request = request.with("Event", "presence").with("Expires", expires).with_body("x", body.into_bytes());
        world.give(&request)
    };
    let (sent, events) = subscribe(&mut world, "Catalog", "c1", "60");
    assert_eq!((statuses(&sent), events[0]["command"].as_str()), (vec![200], Some("Catalog")));
    let (sent, _) = world.run(|device, turn| device.command("offline 1", turn));
    assert_eq!(
        (sent[0].method(), sent[0].header("Subscription-State")),
        (Some("NOTIFY"), Some("active;expires=60;retry-after=0"))
    );
    assert!(decode(&sent[0].body).contains("<Event>OFF</Event>"));
    world.answer(&sent[0], 200);
    subscribe(&mut world, "MobilePosition", "c2", "60");
    let (sent, _) = world.next();
    assert_eq!(element(&decode(&sent[0].body), "CmdType"), Some("MobilePosition"));
    world.answer(&sent[0], 200);
    let began = world.now;
    assert_eq!(world.next().0[0].method(), Some("NOTIFY"));
    assert!(world.now - began <= 2 * NANOS_PER_SECOND);
    subscribe(&mut world, "MobilePosition", "c2", "0");
    let (sent, _) = world.run(|device, turn| device.command("alarm", turn));
    assert_eq!((sent[0].method(), element(&decode(&sent[0].body), "CmdType")), (Some("MESSAGE"), Some("Alarm")));
}

#[test]
fn a_broadcast_is_answered_by_an_invitation_and_heard() {
    let mut world = World::new("--speaker");
    let notify = "<Notify><CmdType>Broadcast</CmdType><SN>20</SN><SourceID>34020000002000000001</SourceID>\
        <TargetID>34020000001370000001</TargetID></Notify>";
    let (sent, _) = world.manscdp(notify);
    assert_eq!((statuses(&sent), element(&decode(&sent[1].body), "Result")), (vec![200], Some("OK")));
    let (invite, _) = world.answer(&sent[1], 200);
    assert_eq!(invite[0].method(), Some("INVITE"));
    assert_eq!(invite[0].header("Subject"), Some("34020000002000000001:0200000999,34020000001370000001:0"));
    let offer = super::sdp::Description::parse(&invite[0].body).unwrap();
    let sdp = "v=0\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\na=sendonly\r\ny=0200000001\r\n";
    let mut ok = Message::response(&invite[0], 200, "OK").with("Contact", "<sip:p@127.0.0.1:5060>");
    ok.change("To", |to| to.push_str(";tag=t"));
    let ok = ok.with_body("APPLICATION/SDP", sdp.as_bytes().to_vec());
    let (ack, events) = world.give(&ok);
    assert_eq!((ack[0].method(), names(&events)), (Some("ACK"), vec!["broadcast_agreed"]));
    assert_eq!(world.give(&ok).0[0].method(), Some("ACK"), "each time that the answer comes");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[&[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], b"abc"].concat(), offer.address).unwrap();
    let (_, events) = world.run(|device, turn| {
        device.ready(Device::talk_slot(), turn);
        turn.now += T1;
        device.talk_due(turn);
    });
    assert_eq!((events[0]["packets"].as_u64(), events[0]["md5"].as_str()), (Some(1), Some("900150983cd24fb0d6963f7d28e17f72")));
    let call_id = invite[0].header("Call-ID").unwrap().to_owned();
    let bye = world.request("BYE", "34020000001370000001", &call_id);
    assert_eq!(names(&world.give(&bye).1), ["talk_ended"]);
}
