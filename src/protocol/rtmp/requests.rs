//! The commands of a client, and what the server answers.
//!
//! Adobe RTMP 1.0 §7.2.1 (NetConnection) and §7.2.2 (NetStream); the commands that only Flash Media Server documents (`FCPublish`,
//! `releaseStream`, …) as ffmpeg, OBS, librtmp and GStreamer use them; Enhanced RTMP v2, "Enhancing NetConnection connect Command".
//!
//! Limits: [`MESSAGE_STREAMS_MAX`]; one publication and one subscription per connection; [`AGENT_CHARS_MAX`].

use super::command::{Command, Level, object, text};
use super::error::RtmpError;
use super::name::Target;
use super::publication::Publication;
use super::session::{Client, RtmpSession, Subscription};
use super::wire::WINDOW_BYTES;
use crate::format::amf0::Value;
use crate::format::{Format, HevcForm};
use crate::media::Stamp;
use crate::protocol::common::auth::{Right, Verdict};
use crate::session::{Delivery, Output, PlayRequest, StreamKeyError};

/// How many message streams a connection may create: one bit each in `RtmpSession::message_streams`.
const MESSAGE_STREAMS_MAX: u32 = 8;

/// How much of a client's name is kept.
const AGENT_CHARS_MAX: usize = 128;

/// Enhanced RTMP: what the server forwards.
const VIDEO_FOUR_CCS: [&str; 5] = ["avc1", "hvc1", "av01", "vp08", "vp09"];
const AUDIO_FOUR_CCS: [&str; 3] = ["mp4a", "Opus", ".mp3"];
/// Enhanced RTMP, `FourCcInfoMask`: can forward.
const CAN_FORWARD: f64 = 4.0;
/// Enhanced RTMP, `CapsExMask`: ModEx (4) and nanosecond offsets (8). Of several tracks only the first is carried.
const CAPS_EX: f64 = 12.0;

impl RtmpSession {
    pub(super) fn request(
        &mut self,
        now: Stamp,
        message_stream: u32,
        command: &Command,
        out: &mut Vec<Output>,
    ) -> Result<(), RtmpError> {
        match command.name.as_str() {
            "connect" => self.connect(command, out)?,
            "createStream" => self.create_stream(command)?,
            "publish" => self.publish(now, message_stream, command, out)?,
            "play" => self.play(now, message_stream, command.arguments.first().and_then(Value::as_str), out)?,
            "play2" => {
                let name = command.arguments.first().and_then(|options| options.property("streamName")).and_then(Value::as_str);
                self.play(now, message_stream, name, out)?;
            }
            "closeStream" => self.stop(now, Some(message_stream), out),
            "deleteStream" => self.delete_stream(now, command, out),
            "releaseStream" => self.acknowledge(command),
            "FCPublish" => {
                self.acknowledge(command);
                self.fc_status("onFCPublish", "NetStream.Publish.Start");
            }
            "FCUnpublish" => {
                self.acknowledge(command);
                self.fc_status("onFCUnpublish", "NetStream.Unpublish.Success");
                self.unpublish(now, out);
            }
            "FCSubscribe" => {
                self.acknowledge(command);
                self.fc_status("onFCSubscribe", "NetStream.Play.Start");
            }
            "FCUnsubscribe" | "receiveAudio" | "receiveVideo" | "_checkbw" => self.acknowledge(command),
            "getStreamLength" => self.reply(command, command.result(Value::Null, Value::Number(0.0))),
            "pause" | "pauseRaw" => self.pause(message_stream, command, out),
            "seek" => self.status(message_stream, Level::Status, "NetStream.Seek.Notify", "A live stream has no other place."),
            // Answers to what the server sent.
            "_result" | "_error" | "onStatus" => {}
            _ => self.reply(command, command.error("The server does not know this command.")),
        }
        Ok(())
    }

    /// Sends `answer`, unless the client wants none.
    fn reply(&mut self, command: &Command, answer: Command) {
        if command.transaction != 0.0 {
            self.wire.send_command(0, &answer);
        }
    }

    fn acknowledge(&mut self, command: &Command) {
        self.reply(command, command.result(Value::Null, Value::Undefined));
    }

    fn fc_status(&mut self, name: &str, code: &str) {
        self.wire.send_command(0, &Command::status(name, Level::Status, code, ""));
    }

    fn connect(&mut self, command: &Command, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        if self.client.is_some() {
            return Err(RtmpError::ConnectTwice);
        }
        let owned = |key| command.text(key).unwrap_or_default().to_owned();
        let hevc = announces(&command.object, "hvc1").then_some(HevcForm::Enhanced);
        self.client = Some(Box::new(Client { app: owned("app"), tc_url: owned("tcUrl"), hevc }));
        if let Some(agent) = command.text("flashVer") {
            out.push(Output::Agent(agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect()));
        }
        self.wire.send_window(WINDOW_BYTES);
        self.wire.send_peer_bandwidth(WINDOW_BYTES);
        self.wire.send_chunk_size();
        let info = object(&[
            ("level", text("status")),
            ("code", text("NetConnection.Connect.Success")),
            ("description", text("Connection succeeded.")),
            ("objectEncoding", Value::Number(0.0)),
        ]);
        self.wire.send_command(0, &command.result(server_properties(&command.object), info));
        Ok(())
    }

    fn create_stream(&mut self, command: &Command) -> Result<(), RtmpError> {
        self.connected()?;
        let free = (0..MESSAGE_STREAMS_MAX).find(|bit| self.message_streams & 1 << bit == 0);
        let answer = match free {
            None => command.error("The connection has too many streams."),
            Some(bit) => {
                self.message_streams |= 1 << bit;
                command.result(Value::Null, Value::Number(f64::from(bit + 1)))
            }
        };
        self.wire.send_command(0, &answer);
        Ok(())
    }

    fn connected(&self) -> Result<&Client, RtmpError> {
        self.client.as_deref().ok_or(RtmpError::NotConnected)
    }

    fn created(&self, message_stream: u32) -> Result<(), RtmpError> {
        let created =
            (1..=MESSAGE_STREAMS_MAX).contains(&message_stream) && self.message_streams & 1 << (message_stream - 1) != 0;
        if created { Ok(()) } else { Err(RtmpError::NoSuchStream(message_stream)) }
    }

    /// Whether the client may do that, by `user` and `pass` in the URL.
    fn authorize(&self, now: Stamp, target: &Target, right: Right, out: &mut Vec<Output>) -> Result<(), &'static str> {
        let verdict = self.authority.check_query(now, self.address, &target.query, right, &target.key);
        out.extend(verdict.note(target.query.get("user").is_some(), right, &target.key));
        match verdict {
            Verdict::Granted => Ok(()),
            Verdict::Denied { .. } => Err("The URL needs the right ?user=…&pass=…."),
            Verdict::Forbidden => Err("This user may not do that."),
            Verdict::Throttled => Err("Too many wrong passwords."),
        }
    }

    fn publish(&mut self, now: Stamp, message_stream: u32, command: &Command, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        let client = self.connected()?;
        let name = command.arguments.first().and_then(Value::as_str).unwrap_or_default();
        let target = Target::parse(&client.tc_url, &client.app, name);
        self.created(message_stream)?;
        let (code, refusal) = match target {
            Ok(_) if self.publication.is_some() => ("NetStream.Publish.BadName", "The connection publishes already.".to_owned()),
            Ok(target) => match self.authorize(now, &target, Right::Publish, out) {
                Ok(()) => {
                    self.wire.set_message_bytes_max(self.config.limits.message_bytes_max);
                    self.publication = Some(Box::new(Publication::new(message_stream)));
                    out.push(Output::Publish(target.key));
                    return Ok(());
                }
                Err(why) => ("NetStream.Publish.Denied", why.to_owned()),
            },
            Err(error) => ("NetStream.Publish.BadName", bad_name("publish", error, out)),
        };
        self.status(message_stream, Level::Error, code, &refusal);
        self.close();
        Ok(())
    }

    fn play(&mut self, now: Stamp, message_stream: u32, name: Option<&str>, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        let client = self.connected()?;
        let target = Target::parse(&client.tc_url, &client.app, name.unwrap_or_default());
        let announced = client.hevc;
        self.created(message_stream)?;
        let refusal = match target {
            Ok(target) => {
                if let Err(why) = self.authorize(now, &target, Right::Play, out) {
                    self.status(message_stream, Level::Error, "NetStream.Play.Failed", why);
                    self.close();
                    return Ok(());
                }
                let hevc = target.hevc().or(announced).unwrap_or(self.config.rtmp.hevc);
                let format = Format::Rtmp { hevc, message_stream };
                let start = target.start();
                self.subscription = Some(Subscription { message_stream, granted: false });
                out.push(Output::Play(PlayRequest {
                    key: target.key,
                    format,
                    start,
                    delivery: Delivery::Connection,
                    protocol: super::PROTOCOL.name,
                }));
                return Ok(());
            }
            Err(error) => bad_name("play", error, out),
        };
        self.status(message_stream, Level::Error, "NetStream.Play.StreamNotFound", &refusal);
        self.close();
        Ok(())
    }

    fn pause(&mut self, message_stream: u32, command: &Command, out: &mut Vec<Output>) {
        let Some(subscription) = self.subscription else { return };
        if !subscription.granted || subscription.message_stream != message_stream {
            return;
        }
        let paused = command.arguments.first().and_then(Value::as_bool).unwrap_or(true);
        out.push(Output::Pause(paused));
        let (code, description) = if paused {
            ("NetStream.Pause.Notify", "The stream is paused.")
        } else {
            ("NetStream.Unpause.Notify", "The stream goes on.")
        };
        self.status(message_stream, Level::Status, code, description);
    }

    /// GStreamer names the stream by its key instead of its number: then everything ends.
    fn delete_stream(&mut self, now: Stamp, command: &Command, out: &mut Vec<Output>) {
        let number = command.arguments.first().and_then(Value::as_number);
        let message_stream = number.and_then(|number| (1..=MESSAGE_STREAMS_MAX).find(|id| f64::from(*id) == number));
        if number.is_some() && message_stream.is_none() {
            return;
        }
        self.stop(now, message_stream, out);
        match message_stream {
            Some(id) => self.message_streams &= !(1 << (id - 1)),
            None => self.message_streams = 0,
        }
    }

    /// Ends what is published or played on `message_stream`, or on any.
    fn stop(&mut self, now: Stamp, message_stream: Option<u32>, out: &mut Vec<Output>) {
        let meant = |id: u32| message_stream.is_none_or(|message_stream| message_stream == id);
        if self.publication.as_ref().is_some_and(|publication| meant(publication.message_stream)) {
            self.unpublish(now, out);
        }
        if self.subscription.take_if(|subscription| meant(subscription.message_stream)).is_some() {
            self.idle_since = now;
            out.push(Output::Stop);
        }
    }

    fn unpublish(&mut self, now: Stamp, out: &mut Vec<Output>) {
        let Some(publication) = self.publication.take() else { return };
        self.idle_since = now;
        out.push(Output::Unpublish);
        let description = "The stream is no longer published.";
        self.status(publication.message_stream, Level::Status, "NetStream.Unpublish.Success", description);
    }
}

/// What the client is told of a name that is none, and the log with it: an encoder rarely shows what it is told.
fn bad_name(command: &str, error: StreamKeyError, out: &mut Vec<Output>) -> String {
    out.push(Output::Note { reason: Some("bad_name"), message: format!("{command}: {error}") });
    error.to_string()
}

/// Whether the command object of `connect` says that the client takes `four_cc` in Enhanced RTMP.
fn announces(connect: &Value, four_cc: &str) -> bool {
    let wanted = |text: &str| text == four_cc || text == "*";
    let listed = match connect.property("fourCcList") {
        Some(Value::StrictArray(items)) => items.iter().any(|item| item.as_str().is_some_and(wanted)),
        _ => false,
    };
    let map = connect.property("videoFourCcInfoMap").and_then(Value::properties).unwrap_or_default();
    listed || map.iter().any(|(key, _)| wanted(key))
}

/// The first object of the answer to `connect`. Only a client that speaks of Enhanced RTMP is told of it.
fn server_properties(connect: &Value) -> Value {
    let mut properties = vec![("fmsVer", text("FMS/3,0,1,123")), ("capabilities", Value::Number(31.0))];
    let enhanced = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
    if enhanced.iter().any(|key| connect.property(key).is_some()) {
        let list = VIDEO_FOUR_CCS.iter().chain(&AUDIO_FOUR_CCS).map(|four_cc| text(four_cc)).collect();
        let map = |four_ccs: &[&str]| object(&four_ccs.iter().map(|key| (*key, Value::Number(CAN_FORWARD))).collect::<Vec<_>>());
        properties.push(("fourCcList", Value::StrictArray(list)));
        properties.push(("videoFourCcInfoMap", map(&VIDEO_FOUR_CCS)));
        properties.push(("audioFourCcInfoMap", map(&AUDIO_FOUR_CCS)));
        properties.push(("capsEx", Value::Number(CAPS_EX)));
    }
    object(&properties)
}
