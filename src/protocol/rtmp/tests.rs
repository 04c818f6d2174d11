//! The session against a client that is made by hand, against captured clients, and against `client`.

use std::net::SocketAddr;

use bytes::Bytes;

use super::client::{ClientEvent, ClientOutput, RtmpClient};
use super::command::{Command, object, text};
use super::session::RtmpSession;
use super::wire::WINDOW_BYTES;
use crate::config::{Auth, Config, Rights, User};
use crate::format::amf0::{self, Value};
use crate::format::flv::TagType;
use crate::format::flv_mux::Tag;
use crate::format::rtmp_chunk::{ChunkReader, Message, MessageHeader, RtmpMuxer, message_type, write_message};
use crate::format::{Format, HevcForm, Muxer};
use crate::media::{MediaEvent, Stamp};
use crate::protocol::SessionContext;
use crate::session::{CloseReason, Input, Output, Refusal, Session, SessionError, Start};

const START: Stamp = Stamp::from_millis(1_000_000);

fn new_session(config: Config) -> RtmpSession {
    let context = SessionContext::lone(config, SocketAddr::from(([127, 0, 0, 1], 5000)));
    RtmpSession::new(&context, START)
}

/// A client made by hand: sends what it is told, and writes down the answers in short form.
struct Peer {
    session: RtmpSession,
    reader: ChunkReader,
    outputs: Vec<Output>,
}

impl Peer {
    /// Shakes hands only.
    fn new(config: Config) -> Self {
        let mut peer = Peer { session: new_session(config), reader: ChunkReader::new(1 << 24), outputs: Vec::new() };
        let mut out = Vec::new();
        peer.session.handle(START, Input::Bytes(&[&[3][..], &[0; 3072]].concat()), &mut out).unwrap();
        assert!(matches!(&out[..], [Output::Send(bytes)] if bytes.len() == 3073));
        peer
    }

    /// Has connected, and created message stream 1.
    fn connected(app: &str) -> Self {
        Peer::connected_with(Config::default(), app)
    }

    fn connected_with(config: Config, app: &str) -> Self {
        let mut peer = Peer::new(config);
        peer.command(0, "connect", 1.0, object(&[("app", text(app))]), &[]).unwrap();
        peer.call("createStream", 2.0, &[]);
        peer
    }

    fn publishing() -> Self {
        let mut peer = Peer::connected("live");
        peer.send_command(1, "publish", 5.0, &[text("a"), text("live")]).unwrap();
        peer.input(Input::Publishing).unwrap();
        peer.outputs.clear();
        peer
    }

    fn playing() -> Self {
        let mut peer = Peer::connected("live");
        peer.send_command(1, "play", 0.0, &[text("a")]).unwrap();
        peer.input(Input::Playing(None)).unwrap();
        peer.outputs.clear();
        peer
    }

    /// Gives the session one input; returns the answers and keeps the other outputs.
    fn input_at(&mut self, now: Stamp, input: Input<'_>) -> Result<Vec<String>, SessionError> {
        let mut out = Vec::new();
        let result = self.session.handle(now, input, &mut out);
        let mut answers = Vec::new();
        for output in out {
            let Output::Send(bytes) = &output else {
                self.outputs.push(output);
                continue;
            };
            let mut input = &bytes[..];
            while let Some(message) = self.reader.read(&mut input).unwrap() {
                answers.push(short(&message));
            }
        }
        result.map(|()| answers)
    }

    fn input(&mut self, input: Input<'_>) -> Result<Vec<String>, SessionError> {
        self.input_at(START, input)
    }

    fn message(
        &mut self,
        message_type: u8,
        message_stream: u32,
        timestamp: u32,
        body: &[u8],
    ) -> Result<Vec<String>, SessionError> {
        let mut bytes = Vec::new();
        let header = MessageHeader { chunk_stream: 3, timestamp, message_type, message_stream };
        write_message(&header, &[body], 128, &mut bytes);
        self.input(Input::Bytes(&bytes))
    }

    fn command(
        &mut self,
        message_stream: u32,
        name: &str,
        id: f64,
        object: Value,
        arguments: &[Value],
    ) -> Result<Vec<String>, SessionError> {
        let command = Command::new(name, id, object, arguments.to_vec());
        self.message(message_type::COMMAND_AMF0, message_stream, 0, &command.encode())
    }

    fn send_command(
        &mut self,
        message_stream: u32,
        name: &str,
        id: f64,
        arguments: &[Value],
    ) -> Result<Vec<String>, SessionError> {
        self.command(message_stream, name, id, Value::Null, arguments)
    }

    fn call(&mut self, name: &str, id: f64, arguments: &[Value]) -> Vec<String> {
        self.send_command(0, name, id, arguments).unwrap()
    }
}

/// `_result 2 1`, `onStatus@1 NetStream.Play.Start`, `error onStatus@1 …`, `control 5 002625A0`.
fn short(message: &Message) -> String {
    let hex: String = message.body.iter().map(|byte| format!("{byte:02X}")).collect();
    match message.message_type {
        message_type::COMMAND_AMF0 => {
            let command = Command::parse(&message.body).unwrap();
            let info = command.arguments.first();
            let field = |key| info.and_then(|info| info.property(key)).and_then(Value::as_str);
            let name = &command.name;
            match (field("code"), field("level"), info) {
                (Some(code), Some("error"), _) => format!("error {name}@{} {code}", message.message_stream),
                (Some(code), ..) => format!("{name}@{} {code}", message.message_stream),
                (_, _, Some(Value::Number(number))) => format!("{name} {} {number}", command.transaction),
                _ => format!("{name} {}", command.transaction),
            }
        }
        message_type::DATA_AMF0 => {
            let values = amf0::decode_all(&message.body).unwrap();
            format!("data@{} {}", message.message_stream, values[0].as_str().unwrap())
        }
        other => format!("control {other} {hex}"),
    }
}

#[test]
fn connect_is_answered_in_the_order_that_clients_expect() {
    let mut peer = Peer::new(Config::default());
    let agent = object(&[("app", text("live")), ("flashVer", text("Test\n1"))]);
    let answers = peer.command(0, "connect", 1.0, agent, &[]).unwrap();
    // Set Chunk Size is missing here because the reader carries it out.
    assert_eq!(answers, ["control 5 002625A0", "control 6 002625A002", "_result@0 NetConnection.Connect.Success"]);
    assert_eq!(peer.outputs, [Output::Agent("Test1".to_owned())]);
}

#[test]
fn enhanced_capabilities_are_told_to_those_who_ask() {
    let list = Value::StrictArray(vec![text("hvc1")]);
    for (name, property, told) in [("plain", ("fpad", Value::Boolean(false)), false), ("enhanced", ("fourCcList", list), true)] {
        let mut peer = Peer::new(Config::default());
        let connect = Command::new("connect", 1.0, object(&[("app", text("live")), property]), vec![]);
        let mut bytes = Vec::new();
        let header = MessageHeader { chunk_stream: 3, timestamp: 0, message_type: message_type::COMMAND_AMF0, message_stream: 0 };
        write_message(&header, &[&connect.encode()], 128, &mut bytes);
        let mut out = Vec::new();
        peer.session.handle(START, Input::Bytes(&bytes), &mut out).unwrap();
        let [Output::Send(sent)] = &out[..] else { panic!("{name}: {out:?}") };
        let mut input = &sent[..];
        let mut properties = Value::Null;
        while let Some(message) = peer.reader.read(&mut input).unwrap() {
            if message.message_type == message_type::COMMAND_AMF0 {
                properties = Command::parse(&message.body).unwrap().object;
            }
        }
        for key in ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"] {
            assert_eq!(properties.property(key).is_some(), told, "{name}: {key}");
        }
        assert!(properties.property("fmsVer").is_some(), "{name}");
    }
}

#[test]
fn commands_without_consequences_are_answered() {
    let cases: [(&str, f64, &[&str]); 13] = [
        ("releaseStream", 2.0, &["_result 2"]),
        ("releaseStream", 0.0, &[]),
        ("FCPublish", 3.0, &["_result 3", "onFCPublish@0 NetStream.Publish.Start"]),
        ("FCSubscribe", 0.0, &["onFCSubscribe@0 NetStream.Play.Start"]),
        ("FCUnpublish", 6.0, &["_result 6", "onFCUnpublish@0 NetStream.Unpublish.Success"]),
        ("getStreamLength", 3.0, &["_result 3 0"]),
        ("_checkbw", 4.0, &["_result 4"]),
        ("createStream", 9.0, &["_result 9 2"]),
        ("receiveVideo", 0.0, &[]),
        ("pause", 0.0, &[]),
        ("somethingNew", 7.0, &["error _error@0 NetConnection.Call.Failed"]),
        ("somethingNew", 0.0, &[]),
        ("_result", 7.0, &[]),
    ];
    for (name, id, expected) in cases {
        let mut peer = Peer::connected("live");
        assert_eq!(peer.call(name, id, &[text("a")]), expected, "{name} {id}");
    }
}

#[test]
fn a_publication_from_start_to_end() {
    let ends: [(&str, u32, Vec<Value>); 4] = [
        ("FCUnpublish", 0, vec![text("a")]),
        ("deleteStream", 0, vec![Value::Number(1.0)]),
        ("deleteStream", 0, vec![text("a")]),
        ("closeStream", 1, vec![]),
    ];
    for (name, message_stream, arguments) in ends {
        let mut peer = Peer::connected("live");
        peer.outputs.clear();
        let answers = peer.send_command(1, "publish", 5.0, &[text("a?token=x"), text("live")]).unwrap();
        assert!(answers.is_empty(), "{name}: nothing before the shard has answered");
        assert!(matches!(&peer.outputs[..], [Output::Publish(key)] if key.as_str() == "live/a"), "{name}");
        let answers = peer.input(Input::Publishing).unwrap();
        assert_eq!(answers, ["control 4 000000000001", "onStatus@1 NetStream.Publish.Start"], "{name}");
        let answers = peer.send_command(message_stream, name, 0.0, &arguments).unwrap();
        assert_eq!(answers.last().unwrap(), "onStatus@1 NetStream.Unpublish.Success", "{name}");
        assert_eq!(peer.outputs[1..], [Output::Unpublish], "{name}");
        peer.message(message_type::VIDEO, 1, 0, &[0x27, 1]).expect("media that was on its way is ignored");
    }
}

#[test]
fn playing_from_start_to_end() {
    let mut peer = Peer::connected("live");
    peer.outputs.clear();
    peer.send_command(1, "play", 0.0, &[text("a?start=live"), Value::Number(-2000.0)]).unwrap();
    let [Output::Play(request)] = &peer.outputs[..] else { panic!("{:?}", peer.outputs) };
    assert_eq!((request.key.as_str(), request.protocol, request.start), ("live/a", "rtmp", Start::Live));
    assert_eq!(request.format, Format::Rtmp { hevc: HevcForm::Enhanced, message_stream: 1 });
    let answers = peer.input(Input::Playing(None)).unwrap();
    let expected = [
        "control 4 000000000001",
        "onStatus@1 NetStream.Play.Reset",
        "onStatus@1 NetStream.Play.Start",
        "data@1 |RtmpSampleAccess",
    ];
    assert_eq!(answers, expected);
    peer.outputs.clear();
    let paused = peer.send_command(1, "pause", 0.0, &[Value::Boolean(true), Value::Number(0.0)]).unwrap();
    assert_eq!(paused, ["onStatus@1 NetStream.Pause.Notify"]);
    let resumed = peer.send_command(1, "pause", 0.0, &[Value::Boolean(false), Value::Number(0.0)]).unwrap();
    assert_eq!(resumed, ["onStatus@1 NetStream.Unpause.Notify"]);
    assert_eq!(peer.send_command(1, "seek", 0.0, &[Value::Number(0.0)]).unwrap(), ["onStatus@1 NetStream.Seek.Notify"]);
    let answers = peer.input(Input::Ended).unwrap();
    let expected = ["control 4 000100000001", "onStatus@1 NetStream.Play.UnpublishNotify", "onStatus@1 NetStream.Play.Stop"];
    assert_eq!(answers, expected);
    assert_eq!(peer.outputs, [Output::Pause(true), Output::Pause(false), Output::Close]);
    assert_eq!(peer.session.next_timeout(), None);
}

#[test]
fn a_player_stops_and_plays_again() {
    let mut peer = Peer::playing();
    peer.send_command(1, "closeStream", 0.0, &[]).unwrap();
    peer.send_command(1, "play", 0.0, &[text("b")]).unwrap();
    let options = object(&[("streamName", text("c")), ("transition", text("switch"))]);
    peer.send_command(1, "play2", 0.0, &[options]).unwrap();
    let keys: Vec<String> = peer
        .outputs
        .iter()
        .map(|output| match output {
            Output::Play(request) => request.key.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, ["Stop", "live/b", "live/c"]);
}

#[test]
fn refusals_are_said_and_close() {
    let cases = [
        ("publish", Refusal::NameInUse, "error onStatus@1 NetStream.Publish.BadName"),
        ("publish", Refusal::LimitReached, "error onStatus@1 NetStream.Publish.Failed"),
        ("publish", Refusal::ShuttingDown, "error onStatus@1 NetStream.Publish.Failed"),
        ("play", Refusal::NotFound, "error onStatus@1 NetStream.Play.StreamNotFound"),
        ("play", Refusal::LimitReached, "error onStatus@1 NetStream.Play.Failed"),
        ("play", Refusal::ShuttingDown, "error onStatus@1 NetStream.Play.Failed"),
    ];
    for (command, refusal, expected) in cases {
        let mut peer = Peer::connected("live");
        peer.send_command(1, command, 0.0, &[text("a")]).unwrap();
        peer.outputs.clear();
        assert_eq!(peer.input(Input::Refused(refusal)).unwrap(), [expected], "{command} {refusal:?}");
        assert_eq!(peer.outputs, [Output::Close], "{command} {refusal:?}");
        assert!(peer.call("createStream", 8.0, &[]).is_empty(), "nothing is answered after the end");
    }
    let names = [
        (
            "publish",
            "..",
            "error onStatus@1 NetStream.Publish.BadName",
            "publish: a stream name has an empty, '.' or '..' segment",
        ),
        ("publish", "", "error onStatus@1 NetStream.Publish.BadName", "publish: a stream name needs an app and a name: app/name"),
        (
            "play",
            "%zz",
            "error onStatus@1 NetStream.Play.StreamNotFound",
            "play: a stream name has a character that is not allowed",
        ),
    ];
    for (command, name, expected, message) in names {
        let mut peer = Peer::connected("live");
        peer.outputs.clear();
        assert_eq!(peer.send_command(1, command, 0.0, &[text(name)]).unwrap(), [expected], "{command} {name:?}");
        let note = Output::Note { reason: Some("bad_name"), message: message.to_owned() };
        assert_eq!(peer.outputs, [note, Output::Close], "{command} {name:?}");
    }
    let mut peer = Peer::publishing();
    assert_eq!(peer.send_command(1, "publish", 0.0, &[text("b")]).unwrap(), ["error onStatus@1 NetStream.Publish.BadName"]);
}

#[test]
fn users_are_named_in_the_url() {
    let user = User { name: "ann".into(), password: "s&t".into(), publish: vec!["live/*".into()], play: vec![] };
    let anonymous = Rights { publish: vec![], play: vec!["live/open".into()] };
    let auth = Auth { users: vec![user], anonymous, ..Auth::default() };
    const PUBLISH: &str = "error onStatus@1 NetStream.Publish.Denied";
    const PLAY: &str = "error onStatus@1 NetStream.Play.Failed";
    // App, command, name; the refusal with the reason that is counted, or the stream that is asked for.
    let rows = [
        ("live", "publish", "a?user=ann&pass=s%26t", Ok("live/a")),
        ("live?user=ann&pass=s%26t", "publish", "a", Ok("live/a")),
        ("live", "publish", "a?user=ann&pass=wrong", Err((PUBLISH, "wrong_password"))),
        ("live", "publish", "a?user=ann", Err((PUBLISH, "wrong_password"))),
        ("live", "publish", "a", Err((PUBLISH, "no_password"))),
        ("other", "publish", "a?user=ann&pass=s%26t", Err((PUBLISH, "not_allowed"))),
        ("live", "play", "a?user=ann&pass=s%26t", Err((PLAY, "not_allowed"))),
        ("live", "play", "a", Err((PLAY, "no_password"))),
        ("live", "play", "open", Ok("live/open")),
    ];
    for (app, command, name, expected) in rows {
        let mut peer = Peer::connected_with(Config { auth: auth.clone(), ..Config::default() }, app);
        peer.outputs.clear();
        let said = peer.send_command(1, command, 0.0, &[text(name)]).unwrap();
        match expected {
            Err((refusal, reason)) => {
                assert_eq!(said, [refusal], "{app} {command} {name}");
                let [Output::Note { reason: Some(counted), message }, Output::Close] = &peer.outputs[..] else {
                    panic!("{app} {command} {name}: {:?}", peer.outputs)
                };
                assert_eq!(*counted, reason, "{app} {command} {name}");
                assert!(message.starts_with(&format!("may not {command} {app}/a: ")), "{message}");
            }
            Ok(stream) => {
                let asked = match &peer.outputs[..] {
                    [Output::Publish(key)] => key,
                    [Output::Play(request)] => &request.key,
                    other => panic!("{app} {command} {name}: {other:?}"),
                };
                assert_eq!(asked.as_str(), stream);
            }
        }
    }
}

#[test]
fn goodbyes() {
    let mut publisher = Peer::publishing();
    let answers = publisher.input(Input::Closing(CloseReason::Kicked)).unwrap();
    assert_eq!(answers, ["onStatus@1 NetStream.Unpublish.Success", "onStatus@0 NetConnection.Connect.Closed"]);
    let mut player = Peer::playing();
    let answers = player.input(Input::Closing(CloseReason::ShuttingDown)).unwrap();
    let expected = [
        "control 4 000100000001",
        "onStatus@1 NetStream.Play.UnpublishNotify",
        "onStatus@1 NetStream.Play.Stop",
        "onStatus@0 NetConnection.Connect.AppShutdown",
    ];
    assert_eq!(answers, expected);
    let mut silent = new_session(Config::default());
    let mut out = Vec::new();
    silent.handle(START, Input::Closing(CloseReason::ShuttingDown), &mut out).unwrap();
    assert!(out.is_empty(), "who has not shaken hands is told nothing");
}

#[test]
fn misbehaviour_ends_the_session() {
    type Step = fn(&mut Peer) -> Result<Vec<String>, SessionError>;
    let cases: [(&str, Step, &str); 9] = [
        (
            "createStream first",
            |_| Peer::new(Config::default()).send_command(0, "createStream", 1.0, &[]),
            "command_before_connect",
        ),
        (
            "publish first",
            |_| Peer::new(Config::default()).send_command(1, "publish", 1.0, &[text("a")]),
            "command_before_connect",
        ),
        ("connect twice", |peer| peer.command(0, "connect", 1.0, object(&[]), &[]), "connect_twice"),
        ("a stream that is not there", |peer| peer.send_command(2, "play", 0.0, &[text("a")]), "no_such_message_stream"),
        ("stream zero", |peer| peer.send_command(0, "play", 0.0, &[text("a")]), "no_such_message_stream"),
        ("a command that is a number", |peer| peer.message(20, 0, 0, &[0; 9]), "command_without_name"),
        ("broken AMF", |peer| peer.message(20, 0, 0, &[2, 0, 9, b'x']), "amf_truncated"),
        ("short ping", |peer| peer.message(4, 0, 0, &[0, 6, 1]), "control_too_short"),
        ("a long message before publish", |peer| peer.message(9, 1, 0, &vec![0; 70_000]), "chunk_message_too_long"),
    ];
    for (name, step, reason) in cases {
        let error = step(&mut Peer::connected("live")).expect_err(name);
        assert_eq!(error.reason, reason, "{name}: {error}");
    }
    let cases = [
        ("aggregate header cut off", 22, vec![8, 0, 0, 1], "aggregate_truncated"),
        ("aggregate body cut off", 22, [&[8, 0, 0, 9][..], &[0; 8]].concat(), "aggregate_truncated"),
        ("broken video", 9, vec![0x17, 0, 0], "flv_truncated_tag"),
        ("broken metadata", 18, vec![2, 0, 9], "amf"),
    ];
    for (name, message_type, body, reason) in cases {
        let error = Peer::publishing().message(message_type, 1, 0, &body).expect_err(name);
        assert!(error.reason.starts_with(reason) || error.reason.starts_with("flv"), "{name}: {}", error.reason);
    }
    let mut out = Vec::new();
    let error = new_session(Config::default()).handle(START, Input::Bytes(b"GET / HTTP/1.1\r\n"), &mut out).unwrap_err();
    assert_eq!(error.reason, "handshake_not_rtmp");
}

#[test]
fn message_streams_are_counted_and_reused() {
    let mut peer = Peer::connected("live");
    for id in 2..=8 {
        assert_eq!(peer.call("createStream", 3.0, &[]), [format!("_result 3 {id}")]);
    }
    assert_eq!(peer.call("createStream", 3.0, &[]), ["error _error@0 NetConnection.Call.Failed"]);
    peer.call("deleteStream", 0.0, &[Value::Number(4.0)]);
    peer.call("deleteStream", 0.0, &[Value::Number(1e9)]);
    assert_eq!(peer.call("createStream", 3.0, &[]), ["_result 3 4"]);
}

#[test]
fn amf3_envelopes() {
    let mut peer = Peer::connected("live");
    let body = Command::new("createStream", 5.0, Value::Null, vec![]).encode();
    assert_eq!(peer.message(message_type::COMMAND_AMF3, 0, 0, &[&[0][..], &body].concat()).unwrap(), ["_result 5 2"]);
    assert_eq!(peer.message(message_type::COMMAND_AMF3, 0, 0, &body).unwrap(), ["_result 5 3"], "without the format byte");
}

#[test]
fn the_connection_is_kept_in_order() {
    let mut peer = Peer::connected("live");
    assert_eq!(peer.message(4, 0, 0, &[0, 6, 1, 2, 3, 4]).unwrap(), ["control 4 000701020304"], "ping");
    assert!(peer.message(4, 0, 0, &[0, 3, 0, 0, 0, 1, 0, 0, 0, 9]).unwrap().is_empty(), "buffer length");
    assert!(peer.message(3, 0, 0, &[0, 0, 0, 1]).unwrap().is_empty(), "acknowledgement");
    assert_eq!(peer.message(6, 0, 0, &[0, 0, 16, 0, 2]).unwrap(), ["control 5 00001000"], "peer bandwidth");
    assert!(peer.message(6, 0, 0, &[0, 0, 16, 0, 2]).unwrap().is_empty(), "the same window again");
    assert_eq!(peer.message(5, 0, 0, &[0, 0, 0, 100]).unwrap().len(), 1, "the window is full at once");
    assert!(peer.message(18, 1, 0, &[5; 50]).unwrap().is_empty());
    assert_eq!(peer.message(18, 1, 0, &[5; 50]).unwrap().len(), 1, "each time the window is full");

    let mut peer = Peer::publishing();
    let mut acknowledged = 0;
    for _ in 0..WINDOW_BYTES / 100_000 + 1 {
        acknowledged += peer.message(9, 1, 0, &vec![0x57; 100_000]).unwrap().len();
    }
    assert_eq!(acknowledged, 1, "a peer that names no window is acknowledged too");
}

#[test]
fn timeouts() {
    let mut peer = Peer::connected("live");
    let setup = START.after_millis(10_000);
    assert_eq!(peer.session.next_timeout(), Some(setup));
    peer.input_at(START.after_millis(9_999), Input::Timeout).expect("too early");
    assert_eq!(peer.input_at(setup, Input::Timeout).unwrap_err().reason, "setup_timeout");

    let mut peer = Peer::publishing();
    assert_eq!(peer.session.next_timeout(), Some(START.after_millis(60_000)));
    peer.input_at(START.after_millis(50_000), Input::Bytes(&[3])).unwrap();
    peer.input_at(START.after_millis(60_000), Input::Timeout).expect("it has sent something");
    assert_eq!(peer.input_at(START.after_millis(110_000), Input::Timeout).unwrap_err().reason, "publisher_timeout");

    let mut peer = Peer::publishing();
    let later = START.after_millis(30_000);
    let mut bytes = Vec::new();
    let header = MessageHeader { chunk_stream: 3, timestamp: 0, message_type: 20, message_stream: 1 };
    write_message(&header, &[&Command::new("closeStream", 0.0, Value::Null, vec![]).encode()], 128, &mut bytes);
    peer.input_at(later, Input::Bytes(&bytes)).unwrap();
    assert_eq!(peer.session.next_timeout(), Some(later.after_millis(10_000)), "it has so long to begin anew");

    let mut peer = Peer::playing();
    let ping = START.after_millis(20_000);
    assert_eq!(peer.session.next_timeout(), Some(ping));
    assert_eq!(peer.input_at(ping, Input::Timeout).unwrap(), ["control 4 0006000F9060"]);
    assert_eq!(peer.session.next_timeout(), Some(ping.after_millis(20_000)), "no answer is no fault");
}

#[test]
fn the_form_of_h265_is_chosen() {
    let list = |text: &str| ("fourCcList", Value::StrictArray(vec![super::command::text(text)]));
    let map = |key: &str| ("videoFourCcInfoMap", object(&[(key, Value::Number(1.0))]));
    let none = || ("fpad", Value::Boolean(false));
    let (enhanced, legacy) = (HevcForm::Enhanced, HevcForm::Legacy);
    let cases = [
        ("nothing said", none(), "a", enhanced, enhanced),
        ("nothing said, legacy configured", none(), "a", legacy, legacy),
        ("listed", list("hvc1"), "a", legacy, enhanced),
        ("wildcard", list("*"), "a", legacy, enhanced),
        ("other codec listed", list("av01"), "a", legacy, legacy),
        ("mapped", map("hvc1"), "a", legacy, enhanced),
        ("wildcard mapped", map("*"), "a", legacy, enhanced),
        ("query wins", list("hvc1"), "a?hevc=legacy", enhanced, legacy),
        ("query over configuration", none(), "a?hevc=enhanced", legacy, enhanced),
    ];
    for (name, property, stream, configured, expected) in cases {
        let mut config = Config::default();
        config.rtmp.hevc = configured;
        let mut peer = Peer::new(config);
        peer.command(0, "connect", 1.0, object(&[("app", text("live")), property]), &[]).unwrap();
        peer.call("createStream", 2.0, &[]);
        peer.send_command(1, "play", 0.0, &[text(stream)]).unwrap();
        let Some(Output::Play(request)) = peer.outputs.last() else { panic!("{name}: {:?}", peer.outputs) };
        assert_eq!(request.format, Format::Rtmp { hevc: expected, message_stream: 1 }, "{name}");
    }
}

/// G.711 needs no configuration: one sub-message is one frame.
fn aggregate(subs: &[(u32, &[u8])], back_pointers: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for (timestamp, data) in subs {
        body.push(8);
        body.extend_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        body.extend_from_slice(&timestamp.to_be_bytes()[1..]);
        body.extend_from_slice(&[timestamp.to_be_bytes()[0], 0, 0, 0]);
        body.extend_from_slice(data);
        if back_pointers {
            body.extend_from_slice(&(data.len() as u32 + 11).to_be_bytes());
        }
    }
    body
}

fn frame_times(outputs: &[Output]) -> Vec<i64> {
    let time = |output: &Output| match output {
        Output::Media(MediaEvent::Frame(frame)) => Some(frame.dts.as_millis()),
        _ => None,
    };
    outputs.iter().filter_map(time).collect()
}

#[test]
fn aggregates_keep_the_distances_of_their_parts() {
    let sound: &[u8] = &[0x72, 1, 2, 3];
    let mut peer = Peer::publishing();
    peer.message(message_type::AGGREGATE, 1, 5000, &aggregate(&[(100, sound), (120, sound), (140, sound)], true)).unwrap();
    assert_eq!(frame_times(&peer.outputs), [5000, 5020, 5040]);
    let mut peer = Peer::publishing();
    peer.message(message_type::AGGREGATE, 1, 7, &aggregate(&[(0x0200_0000, sound)], false)).unwrap();
    assert_eq!(frame_times(&peer.outputs), [7], "32-bit stamp, no back pointer at the end");
}

#[test]
fn tracks_that_came_before_the_grant_are_not_lost() {
    let mut peer = Peer::connected("live");
    peer.send_command(1, "publish", 5.0, &[text("a")]).unwrap();
    peer.message(message_type::AUDIO, 1, 0, &[0x72, 1]).unwrap();
    peer.outputs.clear();
    peer.input(Input::Publishing).unwrap();
    peer.message(message_type::AUDIO, 1, 20, &[0x72, 2]).unwrap();
    assert!(matches!(&peer.outputs[..], [Output::Media(MediaEvent::Tracks(_)), Output::Media(MediaEvent::Frame(_))]));
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<RtmpSession>() <= 512, "{}", size_of::<RtmpSession>());
}

/// What captured clients sent: handshake, commands and the first media.
const TRANSCRIPTS: [(&str, &[u8], &str); 9] = [
    ("ffmpeg 5.1 publishes", include_bytes!("../../../tests/corpus/rtmp/publish_ffmpeg5"), "live/s1"),
    ("ffmpeg 9 publishes", include_bytes!("../../../tests/corpus/rtmp/publish_ffmpeg9_hevc_opus"), "live/h1"),
    ("rtmp2sink publishes", include_bytes!("../../../tests/corpus/rtmp/publish_gst_rtmp2sink"), "live/g1"),
    ("librtmp publishes", include_bytes!("../../../tests/corpus/rtmp/publish_librtmp"), "live/l1"),
    ("ffmpeg 5.1 plays", include_bytes!("../../../tests/corpus/rtmp/play_ffmpeg"), "live/s1"),
    ("ffmpeg 9 plays live", include_bytes!("../../../tests/corpus/rtmp/play_ffmpeg_live"), "live/s1"),
    ("ffmpeg 9 announces", include_bytes!("../../../tests/corpus/rtmp/play_ffmpeg9_enhanced"), "live/h1"),
    ("rtmpdump plays", include_bytes!("../../../tests/corpus/rtmp/play_rtmpdump"), "live/s1"),
    ("rtmp2src plays", include_bytes!("../../../tests/corpus/rtmp/play_gst_rtmp2src"), "live/g1"),
];

/// Gives `bytes` to a session in pieces that end at `cuts`, and grants what it asks. The sent bytes come out as one piece.
fn replay(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Output>) {
    let mut session = new_session(Config::default());
    let (mut sent, mut outputs) = (Vec::new(), Vec::new());
    let mut at = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut out = Vec::new();
        session.handle(START, Input::Bytes(&bytes[at..end]), &mut out).unwrap();
        at = end;
        let granted = out.iter().find_map(|output| match output {
            Output::Publish(_) => Some(Input::Publishing),
            Output::Play(_) => Some(Input::Playing(None)),
            _ => None,
        });
        if let Some(granted) = granted {
            session.handle(START, granted, &mut out).unwrap();
        }
        for output in out {
            match output {
                Output::Send(bytes) => sent.extend_from_slice(&bytes),
                other => outputs.push(other),
            }
        }
    }
    (sent, outputs)
}

/// How many bytes make the session ask for the stream.
fn asks_at(bytes: &[u8]) -> usize {
    let mut session = new_session(Config::default());
    let mut out = Vec::new();
    (0..bytes.len())
        .find(|at| {
            session.handle(START, Input::Bytes(&bytes[*at..at + 1]), &mut out).unwrap();
            out.iter().any(|output| matches!(output, Output::Publish(_) | Output::Play(_)))
        })
        .unwrap()
        + 1
}

#[test]
fn captured_clients_are_understood_in_every_cut() {
    for (name, bytes, key) in TRANSCRIPTS {
        let asks_at = asks_at(bytes);
        let whole = replay(bytes, &[asks_at]);
        let asked = whole.1.iter().find_map(|output| match output {
            Output::Publish(key) => Some(key.as_str()),
            Output::Play(request) => Some(request.key.as_str()),
            _ => None,
        });
        assert_eq!(asked, Some(key), "{name}");
        if name.contains("publishes") {
            assert!(!frame_times(&whole.1).is_empty(), "{name}");
        }
        let single: Vec<usize> = (1..bytes.len()).collect();
        assert!(replay(bytes, &single) == whole, "{name}, byte by byte");
        // The handshake has tests of its own, so that these cuts begin at its end.
        for cut in 3072..bytes.len() {
            let cuts = if cut < asks_at { [cut, asks_at] } else { [asks_at, cut] };
            assert!(replay(bytes, &cuts) == whole, "{name}, cut at {cut}");
        }
    }
}

/// A server session and a client, connected by memory.
struct Pair {
    session: RtmpSession,
    client: RtmpClient,
    events: Vec<ClientEvent>,
    outputs: Vec<Output>,
}

impl Pair {
    fn new(client: RtmpClient) -> Self {
        let mut pair = Pair { session: new_session(Config::default()), client, events: Vec::new(), outputs: Vec::new() };
        pair.give_client(&[], 1);
        pair
    }

    /// Gives the client bytes of the server in pieces, and the server what the client answers.
    fn give_client(&mut self, bytes: &[u8], piece: usize) {
        let mut out = Vec::new();
        self.client.handle(START, &[], &mut out).unwrap();
        for piece in bytes.chunks(piece) {
            self.client.handle(START, piece, &mut out).unwrap();
        }
        for output in out {
            match output {
                ClientOutput::Send(bytes) => self.give_server(&bytes),
                ClientOutput::Event(event) => self.events.push(event),
            }
        }
    }

    fn give_server(&mut self, bytes: &[u8]) {
        let mut out = Vec::new();
        self.session.handle(START, Input::Bytes(bytes), &mut out).unwrap();
        let granted = out.iter().find_map(|output| match output {
            Output::Publish(_) => Some(Input::Publishing),
            Output::Play(_) => Some(Input::Playing(None)),
            _ => None,
        });
        if let Some(granted) = granted {
            self.session.handle(START, granted, &mut out).unwrap();
        }
        for output in out {
            match output {
                Output::Send(bytes) => self.give_client(&bytes, 100),
                other => self.outputs.push(other),
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.events.contains(&ClientEvent::Ready { message_stream: 1 })
    }

    fn media(&mut self) -> Vec<MediaEvent> {
        let media = |output| match output {
            Output::Media(event) => Some(event),
            _ => None,
        };
        self.outputs.drain(..).filter_map(media).collect()
    }
}

/// The sequence headers of a captured publisher, so that they are real.
fn sequence_headers() -> Vec<Tag> {
    let mut input = &include_bytes!("../../../tests/corpus/rtmp/publish_ffmpeg5")[3073..];
    let mut reader = ChunkReader::new(1 << 20);
    let mut tags = Vec::new();
    while let Some(message) = reader.read(&mut input).unwrap() {
        let tag = match (message.message_type, message.body.get(1)) {
            (message_type::VIDEO, Some(0)) => TagType::Video,
            (message_type::AUDIO, Some(0)) => TagType::Audio,
            _ => continue,
        };
        tags.push(Tag { tag, timestamp_ms: 0, head: Default::default(), body: message.body });
    }
    assert_eq!(tags.len(), 2);
    tags
}

/// A frame: `size` bytes of one NAL unit, or of raw AAC.
fn frame_tag(tag: TagType, timestamp_ms: u32, key: bool, size: usize) -> Tag {
    let mut body = match tag {
        TagType::Video => [&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 40][..], &(size as u32).to_be_bytes()].concat(),
        _ => vec![0xAF, 1],
    };
    let at = body.len();
    body.extend((0..size).map(|n| (n as u32 ^ timestamp_ms) as u8));
    if let (TagType::Video, Some(first)) = (tag, body.get_mut(at)) {
        *first = if key { 0x65 } else { 0x41 };
    }
    Tag { tag, timestamp_ms, head: Default::default(), body: Bytes::from(body) }
}

/// 25 pictures per second with sound, from `start_ms` on.
fn tags_from(start_ms: u32, sizes: &[usize]) -> Vec<Tag> {
    let mut tags = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let timestamp_ms = start_ms.wrapping_add(40 * n as u32);
        tags.push(frame_tag(TagType::Video, timestamp_ms, n == 0, *size));
        tags.push(frame_tag(TagType::Audio, timestamp_ms, true, 100 + n));
    }
    tags
}

/// Publishes `tags` through one pair, muxes what comes out, plays that through another, in pieces of `piece` bytes.
fn from_publisher_to_player(tags: &[Tag], piece: usize) -> Vec<Message> {
    let mut publisher = Pair::new(RtmpClient::publish("live", "a", "rtmp://h/live", 1 << 24));
    let mut player = Pair::new(RtmpClient::play("live", "a", "rtmp://h/live", 1 << 24).with_four_ccs(&["*"]));
    assert!(publisher.is_ready() && player.is_ready());
    let mut muxer = RtmpMuxer::new(HevcForm::Enhanced, 1);
    let mut packets = Vec::new();
    for tag in sequence_headers().iter().chain(tags) {
        let bytes = publisher.client.write_tag(tag).concat();
        for piece in bytes.chunks(piece) {
            publisher.give_server(piece);
        }
        for event in publisher.media() {
            muxer.push(&event, &mut packets);
        }
    }
    player.events.clear();
    for packet in packets {
        assert_eq!(packet.len, packet.parts.iter().map(Bytes::len).sum::<usize>());
        player.give_client(&packet.parts.concat(), piece);
    }
    let message = |event| match event {
        ClientEvent::Message(message) => Some(message),
        _ => None,
    };
    player.events.into_iter().filter_map(message).collect()
}

#[test]
fn a_stream_goes_through_unchanged_over_both_wraps() {
    let sizes = [50, 1, 1100, 70_000, 150_000, 50];
    for start_ms in [0, 0xFF_FFFF - 100, 0xFF_FFFF - 80, u32::MAX - 100, u32::MAX - 79] {
        let tags = tags_from(start_ms, &sizes);
        for piece in [1 << 20, 1000, 61] {
            let played = from_publisher_to_player(&tags, piece);
            let is_frame = |message: &&Message| {
                matches!(message.message_type, message_type::AUDIO | message_type::VIDEO) && message.body.get(1) == Some(&1)
            };
            let frames: Vec<&Message> = played.iter().filter(is_frame).collect();
            assert_eq!(played.len(), tags.len() + 3, "metadata and two sequence headers, once");
            assert_eq!(frames.len(), tags.len());
            for (frame, tag) in frames.iter().zip(&tags) {
                assert_eq!((frame.timestamp, frame.message_stream), (tag.timestamp_ms, 1), "from {start_ms}");
                assert!(frame.body == tag.body, "from {start_ms}, at {}", tag.timestamp_ms);
            }
        }
    }
}

#[test]
fn a_stream_goes_through_unchanged_in_the_smallest_pieces() {
    let tags = tags_from(u32::MAX - 79, &[300, 200, 1500]);
    let whole = from_publisher_to_player(&tags, 1 << 20);
    for piece in 1..20 {
        assert!(from_publisher_to_player(&tags, piece) == whole, "pieces of {piece}");
    }
}

#[test]
fn a_client_learns_of_a_refusal_and_says_goodbye() {
    let mut pair = Pair::new(RtmpClient::play("live", "..", "rtmp://h/live", 1 << 20));
    let refused = |event: &ClientEvent| matches!(event, ClientEvent::Status { error: true, code, .. } if code == "NetStream.Play.StreamNotFound");
    assert!(pair.events.iter().any(refused) && pair.outputs.contains(&Output::Close) && !pair.is_ready());
    pair = Pair::new(RtmpClient::publish("live", "a", "rtmp://h/live", 1 << 20));
    let mut out = Vec::new();
    pair.client.finish(&mut out);
    for output in out {
        if let ClientOutput::Send(bytes) = output {
            pair.give_server(&bytes);
        }
    }
    assert_eq!(pair.outputs.iter().filter(|output| **output == Output::Unpublish).count(), 1);
}
