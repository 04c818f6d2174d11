//! A camera of our own: program streams in RTP over UDP, or over TCP behind lengths (RFC 4571), in real time; and the API that opens the port.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardcast::media::h264::AvcConfig;
use shardcast::media::h265::HevcConfig;
use shardcast::media::{Codec, TrackKind};

use super::api::{Response, request, request_with};
use super::flv::{self, Tag};
use super::ps_writer::{AAC, G711A, H264, H265, Style, adts, annex_b};
use super::{SOON, Server, wait_for};

const RTP_PAYLOAD_BYTES: usize = 1_400;
const MARKER: u8 = 0x80;

/// What is sent at one moment: an RTP timestamp for all of it, and whether a frame ends with it.
#[derive(Clone, Debug)]
pub struct Burst {
    pub due: Duration,
    pub bytes: Vec<u8>,
    pub marked: bool,
}

/// A clip as a camera sends it: each picture a pack, with the sound behind it.
pub fn camera(tags: &[Tag], style: Style) -> Vec<Burst> {
    const BEGIN_TICKS: u64 = 90_000;
    let (tracks, mut frames) = flv::demux(tags);
    frames.sort_by_key(|frame| frame.dts);
    let video = tracks.first(TrackKind::Video).unwrap();
    let (video_type, sets) = match video.codec {
        Codec::H265 => {
            let config = HevcConfig::parse(&video.config).unwrap();
            (H265, [config.vps, config.sps, config.pps].concat())
        }
        _ => {
            let config = AvcConfig::parse(&video.config).unwrap();
            (H264, [config.sps, config.pps].concat())
        }
    };
    let sets: Vec<Vec<u8>> = sets.iter().map(|set| set.to_vec()).collect();
    let audio = tracks.first(TrackKind::Audio).unwrap();
    let audio_type = if audio.codec == Codec::Aac { AAC } else { G711A };
    let style = Style { map: style.map.map(|_| (video_type, audio_type)), ..style };
    let ticks = |micros: i64| BEGIN_TICKS + (micros * 9 / 100) as u64;
    let burst = |frame: &shardcast::media::Frame| {
        let (dts, pts) = (frame.dts.as_micros(), frame.dts.as_micros() + i64::from(frame.cts));
        let due = Duration::from_micros(dts.max(0) as u64);
        if frame.track == video.id {
            let sets = if frame.key { &sets[..] } else { &[] };
            return Burst {
                due,
                bytes: style.picture(frame.key, ticks(pts), ticks(dts), &annex_b(sets, &frame.data)),
                marked: true,
            };
        }
        let payload = match audio.codec {
            Codec::Aac => adts_like(&audio.config, &frame.data),
            _ => frame.data.to_vec(),
        };
        Burst { due, bytes: style.sound(ticks(pts), &payload), marked: true }
    };
    frames.iter().map(burst).collect()
}

/// AAC-LC with rate and channels of an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
fn adts_like(config: &[u8], raw: &[u8]) -> Vec<u8> {
    let (rate_index, channels) = ((config[0] & 7) << 1 | config[1] >> 7, config[1] >> 3 & 0x0F);
    adts(rate_index, channels, raw)
}

/// A file that another program made, spread evenly over its length and cut without regard to what is in it.
pub fn file(path: &Path, length: Duration) -> Vec<Burst> {
    let bytes = std::fs::read(path).unwrap();
    let count = bytes.len().div_ceil(RTP_PAYLOAD_BYTES) as u32;
    let pieces = bytes.chunks(RTP_PAYLOAD_BYTES).zip(0..);
    // Nothing else tells that the last picture is over.
    pieces.map(|(piece, at)| Burst { due: length * at / count, bytes: piece.to_vec(), marked: at + 1 == count }).collect()
}

/// Where the packets go.
pub enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

pub struct PsSender {
    way: Way,
    pub ssrc: u32,
    sequence: u16,
}

impl PsSender {
    pub fn udp(port: u16, ssrc: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        PsSender { way: Way::Udp(socket), ssrc, sequence: 65_500 }
    }

    /// From a socket that is connected to where it sends.
    pub fn over(socket: UdpSocket, ssrc: u32) -> Self {
        PsSender { way: Way::Udp(socket), ssrc, sequence: 65_500 }
    }

    pub fn tcp(port: u16, ssrc: u32) -> Self {
        let socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        PsSender { way: Way::Tcp(socket), ssrc, sequence: 65_500 }
    }

    /// Opens a receiver, and what sends to it: over what it asks for, connecting or being connected to.
    #[track_caller]
    pub fn start(server: &Server, body: &Value, ssrc: u32) -> (String, Self) {
        if body["transport"] == "tcp_active" {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut body = body.clone();
            body["address"] = listener.local_addr().unwrap().to_string().into();
            let id = server.created_rtp(&body)["id"].as_str().unwrap().to_owned();
            let (socket, _) = listener.accept().unwrap();
            return (id, PsSender { way: Way::Tcp(socket), ssrc, sequence: 65_500 });
        }
        let (id, port) = server.receive_rtp(body);
        (id, if body["transport"] == "udp" { PsSender::udp(port, ssrc) } else { PsSender::tcp(port, ssrc) })
    }

    /// Sends all in real time.
    pub fn send(&mut self, bursts: &[Burst]) {
        self.send_with(bursts, |_| {});
    }

    /// As [`PsSender::send`], with somebody else who does something before each burst.
    pub fn send_with(&mut self, bursts: &[Burst], mut before: impl FnMut(&Burst)) {
        let began = Instant::now();
        let first = bursts.first().map_or(Duration::ZERO, |burst| burst.due);
        for burst in bursts {
            std::thread::sleep((began + burst.due - first).saturating_duration_since(Instant::now()));
            before(burst);
            self.burst(burst);
        }
    }

    pub fn burst(&mut self, burst: &Burst) {
        let timestamp = (burst.due.as_micros() * 9 / 100) as u32;
        let last = burst.bytes.len().div_ceil(RTP_PAYLOAD_BYTES) - 1;
        for (at, piece) in burst.bytes.chunks(RTP_PAYLOAD_BYTES).enumerate() {
            let marker = if burst.marked && at == last { MARKER } else { 0 };
            let mut packet = vec![0x80, marker | 96];
            packet.extend_from_slice(&self.sequence.to_be_bytes());
            packet.extend_from_slice(&timestamp.to_be_bytes());
            packet.extend_from_slice(&self.ssrc.to_be_bytes());
            packet.extend_from_slice(piece);
            self.sequence = self.sequence.wrapping_add(1);
            self.packet(&packet);
        }
    }

    fn packet(&mut self, packet: &[u8]) {
        match &mut self.way {
            // Nobody may be there any more.
            Way::Udp(socket) => drop(socket.send(packet)),
            Way::Tcp(socket) => {
                let framed = [&(packet.len() as u16).to_be_bytes()[..], packet].concat();
                socket.write_all(&framed).unwrap();
            }
        }
    }

    /// Over TCP: the beginning of a packet, and no more.
    pub fn half_packet(&mut self) {
        let Way::Tcp(socket) = &mut self.way else { panic!("a connection") };
        socket.write_all(&[0x05, 0x00, 0x80, 96, 0, 0, 0]).unwrap();
    }

    /// The same source, connected anew.
    pub fn reconnect(self, port: u16) -> PsSender {
        let PsSender { ssrc, sequence, way } = self;
        drop(way);
        PsSender { sequence, ..PsSender::tcp(port, ssrc) }
    }
}

impl Server {
    /// `POST /api/v1/rtp`.
    #[track_caller]
    pub fn open_rtp(&self, body: &Value) -> Response {
        request_with(self.control, "POST", "/api/v1/rtp", &["Content-Type: application/json"], &body.to_string())
    }

    /// The same, which must succeed.
    #[track_caller]
    fn created_rtp(&self, body: &Value) -> Value {
        let response = self.open_rtp(body);
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }

    /// As [`Server::created_rtp`]: id and port.
    #[track_caller]
    pub fn receive_rtp(&self, body: &Value) -> (String, u16) {
        let answer = self.created_rtp(body);
        (answer["id"].as_str().unwrap().to_owned(), answer["port"].as_u64().unwrap().try_into().unwrap())
    }

    #[track_caller]
    pub fn close_rtp(&self, id: &str) {
        assert_eq!(request(self.control, "DELETE", &format!("/api/v1/rtp/{id}"), &[]).status, 204);
    }

    /// Waits until a receiver is in that state; what it says then.
    #[track_caller]
    pub fn wait_rtp(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("receiver {id} is {state}"), SOON, || {
            Some(self.api(&format!("rtp/{id}"))).filter(|receiver| receiver["state"] == state)
        })
    }
}
