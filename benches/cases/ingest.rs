//! A publisher's media on its way into a stream: the RTMP session, the stream itself, and the timeline in it.

use std::hint::black_box;

use bytes::Bytes;
use shardcast::config::Config;
use shardcast::format::flv_mux::{Muxed, TagMuxer};
use shardcast::hub::Stream;
use shardcast::media::timeline::Timeline;
use shardcast::media::{Codec, MediaEvent, MediaTime, Stamp, TrackId};
use shardcast::protocol::SessionContext;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};
use shardcast::protocol::rtmp::session::RtmpSession;
use shardcast::session::{Input, Output, Session, StreamKey};

use super::chunk::MESSAGE_BYTES_MAX;
use super::media::Feed;
use super::{CALLS_PREPARED, Case, GROUP, Work};

const READ_BYTES: usize = 64 * 1024;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("rtmp_session/h264", "frame", || rtmp_session(Codec::H264)),
        Case::new("rtmp_session/aac", "frame", || rtmp_session(Codec::Aac)),
        Case::new("stream_publish/h264", "frame", || stream(Codec::H264)),
        Case::new("stream_publish/aac", "frame", || stream(Codec::Aac)),
        Case::new("timeline/two_tracks", "frame", timeline),
    ]
}

/// A session that publishes, and its client.
struct Publisher {
    session: RtmpSession,
    client: RtmpClient,
}

impl Publisher {
    fn new() -> Publisher {
        let context = SessionContext::lone(Config::default(), ([127, 0, 0, 1], 1).into());
        let client = RtmpClient::publish("live", "a", "rtmp://127.0.0.1/live", MESSAGE_BYTES_MAX);
        let mut publisher = Publisher { session: RtmpSession::new(&context, Stamp::ZERO), client };
        let (mut ready, mut to_client) = (false, Bytes::new());
        while !ready {
            let mut said = Vec::new();
            publisher.client.handle(Stamp::ZERO, &to_client, &mut said).expect("the session speaks RTMP");
            ready = said.iter().any(|output| matches!(output, ClientOutput::Event(ClientEvent::Ready { .. })));
            let bytes =
                said.iter().filter_map(|output| if let ClientOutput::Send(bytes) = output { Some(&bytes[..]) } else { None });
            to_client = publisher.answer(&bytes.collect::<Vec<_>>().concat());
        }
        publisher
    }

    /// What the session answers; a wish to publish is granted.
    fn answer(&mut self, bytes: &[u8]) -> Bytes {
        const VALID: &str = "the client speaks RTMP";
        let mut out = Vec::new();
        self.session.handle(Stamp::ZERO, Input::Bytes(bytes), &mut out).expect(VALID);
        if out.iter().any(|output| matches!(output, Output::Publish(_))) {
            self.session.handle(Stamp::ZERO, Input::Publishing, &mut out).expect(VALID);
        }
        let bytes = out.iter().filter_map(|output| if let Output::Send(bytes) = output { Some(&bytes[..]) } else { None });
        bytes.collect::<Vec<_>>().concat().into()
    }

    /// What the client sends for an event.
    fn write(&self, muxer: &mut TagMuxer, event: &MediaEvent, out: &mut Vec<u8>) {
        let tags = match muxer.push(event) {
            Muxed::Config(tags) => tags,
            Muxed::Frame { tag, .. } => vec![tag],
            _ => Vec::new(),
        };
        tags.iter().flat_map(|tag| self.client.write_tag(tag)).for_each(|part| out.extend_from_slice(&part));
    }
}

/// Bytes of an RTMP publisher → media events, from the second message of a connection on.
fn rtmp_session(codec: Codec) -> Work {
    let (mut publisher, mut feed, mut muxer) = (Publisher::new(), Feed::new(codec), TagMuxer::new(Default::default()));
    let mut begin = Vec::new();
    publisher.write(&mut muxer, &feed.announcement(), &mut begin);
    publisher.answer(&begin);
    // The messages are written whole each time, so the same bytes may come again: time steps back, which is the stream's business.
    let mut bytes = Vec::new();
    (0..GROUP).for_each(|_| publisher.write(&mut muxer, feed.next(), &mut bytes));
    let mut out = Vec::new();
    let mut call = move || {
        let mut frames = 0;
        for piece in bytes.chunks(READ_BYTES) {
            publisher.session.handle(Stamp::ZERO, Input::Bytes(piece), &mut out).expect("the client speaks RTMP");
            frames += out.iter().filter(|output| matches!(output, Output::Media(MediaEvent::Frame(_)))).count();
            out.clear();
        }
        frames
    };
    assert_eq!(call(), GROUP);
    Work::group(move || _ = black_box(call()))
}

/// Gate, timeline, GOP and counters, without viewers.
fn stream(codec: Codec) -> Work {
    let key = StreamKey::parse("live/bench").expect("a valid name");
    let (mut stream, mut feed) = (Stream::new(key, &Config::default()), Feed::new(codec));
    stream.begin_segment();
    stream.publish(feed.announcement());
    // The gate is open, and the first GOP is kept.
    (0..GROUP * CALLS_PREPARED).for_each(|_| stream.publish(feed.next().clone()));
    Work::group(move || {
        (0..GROUP).for_each(|_| stream.publish(feed.next().clone()));
        black_box(stream.gop().bytes());
    })
}

fn timeline() -> Work {
    let (mut timeline, mut millis) = (Timeline::new(), 0);
    Work::group(move || {
        for _ in 0..GROUP / 2 {
            for track in [TrackId(0), TrackId(1)] {
                black_box(timeline.place(track, MediaTime::from_millis(millis), Stamp::from_millis(millis as u64)));
            }
            millis += 33;
        }
    })
}
