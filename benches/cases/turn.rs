//! A shard's turn: a frame comes from the publisher and goes to all viewers, through the real core, with a kernel that takes all.
//!
//! What is in it besides muxer and pump: the publisher's session, the stream, the table of connections, counters. Not in it: system calls, the
//! clock, tasks of the runtime.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use shardcast::config::Config;
use shardcast::format::{Format, MuxerContext};
use shardcast::hub::Directory;
use shardcast::hub::fanout::ConnIndex;
use shardcast::hub::outgoing::Sent;
use shardcast::media::{Codec, Frame, MediaEvent, Stamp};
use shardcast::protocol::record::DiskOrder;
use shardcast::session::{Delivery, Input, Output, PairId, PlayRequest, Session, SessionError, Start, StreamKey};
use shardcast::shard::conn::Socket;
use shardcast::shard::core::{Core, OpenedGroup, OpenedPair, OpenedPort, OpenedShared, Ports};
use shardcast::shard::message::{Batch, Message, Report, ShardId, ShardSnapshot};

use super::media::Feed;
use super::mux::{FLV, RTMP};
use super::ring::frames_per_call;
use super::{Case, Work};

const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

pub fn cases() -> Vec<Case> {
    let alone = Case::new("turn/no_viewers", "frame", || {
        let mut shard = Shard::new();
        Work::group(move || (0..super::GROUP).for_each(|_| shard.turn()))
    });
    let flv = [1, 100, 10_000]
        .map(|viewers| Case::new(format!("turn/flv_{viewers}_viewers"), "frame and viewer", move || turn(FLV, viewers)));
    let rtmp = Case::new("turn/rtmp_100_viewers", "frame and viewer", || turn(RTMP, 100));
    std::iter::once(alone).chain(flv).chain([rtmp]).collect()
}

fn turn(format: Format, viewers: usize) -> Work {
    let mut shard = Shard::new();
    (0..viewers).for_each(|_| shard.view(format));
    // They get the GOP that is there, and have caught up.
    let frames = frames_per_call(viewers);
    (0..frames).for_each(|_| shard.turn());
    shard.sends.take();
    shard.turn();
    assert_eq!(shard.sends.take(), viewers);
    Work::new((frames * viewers) as u32, move || (0..frames).for_each(|_| shard.turn()))
}

/// One shard with a publisher.
struct Shard {
    core: Core<World>,
    now: Rc<Cell<Stamp>>,
    sends: Rc<Cell<usize>>,
    publisher: ConnIndex,
    frames: u64,
}

impl Shard {
    fn new() -> Shard {
        let now = Rc::new(Cell::new(Stamp::from_millis(1_000)));
        let sends = Rc::new(Cell::new(0));
        let world = World { now: now.clone(), sends: sends.clone() };
        let mut core = Core::new(0, 1, Arc::new(Config::default()), Arc::new(Directory::default()), world);
        let publisher = Publisher { feed: Feed::new(Codec::H264), step: Step::Ask };
        let publisher = core.accept(now.get(), Box::new(publisher), "bench", PEER.into(), 3).expect("there is room");
        let mut shard = Shard { core, now, sends, publisher, frames: 0 };
        (0..2 + super::GROUP).for_each(|_| shard.turn());
        shard
    }

    /// The publisher's next step, and all that follows.
    fn turn(&mut self) {
        self.frames += 1;
        let now = Stamp::from_millis(1_000 + self.frames * 33);
        self.now.set(now);
        self.core.received(now, self.publisher, b"go");
        while self.core.wants_flush() {
            self.core.flush(now);
        }
    }

    fn view(&mut self, format: Format) {
        let viewer = Box::new(Viewer { format });
        let index = self.core.accept(self.now.get(), viewer, "bench", PEER.into(), 4).expect("there is room");
        self.core.received(self.now.get(), index, b"go");
        while self.core.wants_flush() {
            self.core.flush(self.now.get());
        }
    }
}

fn key() -> StreamKey {
    StreamKey::parse("live/bench").expect("a valid name")
}

enum Step {
    Ask,
    Announce,
    Frames,
}

/// Publishes something with each call.
struct Publisher {
    feed: Feed,
    step: Step,
}

impl Session for Publisher {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        if !matches!(input, Input::Bytes(_)) {
            return Ok(());
        }
        match self.step {
            Step::Ask => {
                out.push(Output::Publish(key()));
                self.step = Step::Announce;
            }
            Step::Announce => {
                out.push(Output::Media(self.feed.announcement()));
                self.step = Step::Frames;
            }
            Step::Frames => {
                if let MediaEvent::Frame(frame) = self.feed.next() {
                    out.push(Output::Media(MediaEvent::Frame(Frame { arrival: now, ..frame.clone() })));
                }
            }
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        None
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

struct Viewer {
    format: Format,
}

impl Session for Viewer {
    fn handle(&mut self, _now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        if matches!(input, Input::Bytes(_)) {
            let (start, delivery) = (Start::Gop, Delivery::Connection);
            out.push(Output::Play(PlayRequest { key: key(), format: self.format, start, delivery, protocol: "bench" }));
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        None
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// Takes everything that is sent, and has nothing else.
struct World {
    now: Rc<Cell<Stamp>>,
    sends: Rc<Cell<usize>>,
}

impl Ports for World {
    fn now(&self) -> Stamp {
        self.now.get()
    }

    fn send(&mut self, _socket: Socket, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        self.sends.set(self.sends.get() + 1);
        Ok(Sent { count: black_box(slices).iter().map(|slice| slice.len()).sum(), full: false })
    }

    fn finish(&mut self, _socket: Socket) {}

    fn open_pair(&mut self, _socket: Option<Socket>, _index: ConnIndex, _pair: PairId) -> Option<OpenedPair> {
        None
    }

    fn close_pair(&mut self, _handle: usize) {}

    fn open_port(&mut self, _index: ConnIndex) -> Option<OpenedPort> {
        None
    }

    fn close_port(&mut self, _handle: usize) {}

    fn shared_port(&self) -> Option<OpenedShared> {
        None
    }

    fn close_shared(&mut self, _handle: usize) {}

    fn await_peer(&mut self, _index: ConnIndex) -> Option<OpenedPort> {
        None
    }

    fn open_group(&mut self) -> Option<OpenedGroup> {
        None
    }

    fn close_group(&mut self, _handle: usize) {}

    fn session(&mut self, _protocol: &'static str, _peer: SocketAddr, _now: Stamp) -> Option<Box<dyn Session>> {
        None
    }

    fn send_datagrams(&mut self, _socket: Socket, _to: SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize> {
        Ok(bytes.len().div_ceil(datagram_bytes.into()))
    }

    fn post(&mut self, _to: ShardId, _message: Message) {}

    fn lane(&mut self, _to: ShardId, _batch: Batch) -> bool {
        true
    }

    fn report(&mut self, _report: Report) -> bool {
        true
    }

    fn disk(&mut self, _order: DiskOrder) -> bool {
        true
    }

    fn muxer_context(&mut self) -> MuxerContext {
        MuxerContext::default()
    }

    fn complete(&self, _snapshot: &mut ShardSnapshot) {}
}
