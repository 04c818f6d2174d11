//! Events in, events out: a track is passed on once a frame of it has come, however loudly it was announced.
//!
//! Cameras and encoders announce sound that never comes. A player that is told of it may wait for it for ever, and what it was told
//! cannot be taken back. So the first frames are held until every announced track has been heard, for [`HOLD_MS`] at most; then they go
//! on in their order, after a set of tracks without those that are silent. Nobody watches a stream before that, so nobody waits longer
//! for a frame. A track that is heard later joins with its first frame. Limit: `bytes_max` of held frames. Data tracks are never waited
//! for. The owner of the memory is the frames' sender; frames are shared, not copied.

use super::{Codec, Frame, MediaEvent, Stamp, Track, TrackId, TrackKind, Tracks};

/// How long a stream's beginning is held for a track that is announced, and how long a new publisher's announcement is believed.
const HOLD_MS: u64 = 500;

#[derive(Debug)]
pub struct TrackGate {
    announced: Tracks,
    /// Tracks of which this publisher has sent a frame.
    heard: Vec<TrackId>,
    /// Tracks that the publisher before had sent: believed until this one has had its time.
    believed: Vec<TrackId>,
    /// When this publisher's first frame came.
    began: Option<Stamp>,
    /// What is held; `None` once the gate is open.
    held: Option<Vec<Frame>>,
    held_bytes: usize,
    bytes_max: usize,
}

impl TrackGate {
    pub fn new(bytes_max: usize) -> Self {
        TrackGate {
            announced: Tracks::default(),
            heard: Vec::new(),
            believed: Vec::new(),
            began: None,
            held: Some(Vec::new()),
            held_bytes: 0,
            bytes_max,
        }
    }

    /// All tracks that the publisher has announced, silent ones too.
    pub fn announced(&self) -> &Tracks {
        &self.announced
    }

    /// Bytes of the frames that are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Drops the frames that are held: memory is wanted.
    pub fn forget(&mut self) {
        if let Some(held) = &mut self.held {
            *held = Vec::new();
        }
        self.held_bytes = 0;
    }

    /// Another publisher goes on. Once the gate is open nothing is held for it: the viewers are there already.
    pub fn begin_segment(&mut self) {
        self.believed.append(&mut self.heard);
        self.began = None;
    }

    /// Takes the publisher's next event; appends what goes on now.
    pub fn push(&mut self, event: MediaEvent, out: &mut Vec<MediaEvent>) {
        match event {
            MediaEvent::Tracks(tracks) => {
                self.announced = tracks;
                self.pass_tracks(out);
            }
            MediaEvent::Frame(frame) => self.frame(frame, out),
            MediaEvent::End => {
                self.open(out);
                out.push(MediaEvent::End);
            }
        }
    }

    fn frame(&mut self, frame: Frame, out: &mut Vec<MediaEvent>) {
        let began = *self.began.get_or_insert(frame.arrival);
        let is_over = frame.arrival.millis_since(began) >= HOLD_MS;
        if !self.heard.contains(&frame.track) {
            let is_news = !self.believed.contains(&frame.track);
            self.heard.push(frame.track);
            if is_news {
                self.pass_tracks(out);
            }
        }
        if is_over && !self.believed.is_empty() {
            self.believed.clear();
            self.pass_tracks(out);
        }
        let Some(held) = &mut self.held else { return out.push(MediaEvent::Frame(frame)) };
        self.held_bytes += frame.data.len();
        held.push(frame);
        if is_over || self.held_bytes > self.bytes_max || self.all_heard() {
            self.open(out);
        }
    }

    /// Lets go what is held.
    pub fn open(&mut self, out: &mut Vec<MediaEvent>) {
        let Some(held) = self.held.take() else { return };
        self.held_bytes = 0;
        self.pass_tracks(out);
        out.extend(held.into_iter().map(MediaEvent::Frame));
    }

    fn pass_tracks(&self, out: &mut Vec<MediaEvent>) {
        if self.held.is_some() {
            return;
        }
        // AAC of which this publisher has not said what it is like cannot be played before it is heard.
        let is_known = |track: &Track| track.codec != Codec::Aac || !track.config.is_empty();
        let is_believed = |track: &Track| self.believed.contains(&track.id) && is_known(track);
        out.push(MediaEvent::Tracks(self.announced.only(|track| self.heard.contains(&track.id) || is_believed(track))));
    }

    fn all_heard(&self) -> bool {
        let mut waited_for = self.announced.iter().filter(|track| track.codec.kind() != TrackKind::Data).peekable();
        waited_for.peek().is_some() && waited_for.all(|track| self.heard.contains(&track.id))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{MediaTime, TrackShape};

    const SOUND: u8 = 1;

    fn tracks(codecs: &[Codec]) -> MediaEvent {
        let track = |(id, codec): (usize, &Codec)| Track {
            id: TrackId(id as u8),
            codec: *codec,
            config: Bytes::from_static(&[0x12, 0x10]),
            shape: TrackShape::Data,
        };
        MediaEvent::Tracks(Tracks::new(codecs.iter().enumerate().map(track).collect(), Bytes::new()))
    }

    fn frame(track: u8, ms: u64) -> MediaEvent {
        MediaEvent::Frame(Frame {
            data: Bytes::from_static(&[0; 100]),
            arrival: Stamp::from_millis(ms),
            dts: MediaTime::from_millis(ms as i64),
            cts: 0,
            segment: 0,
            track: TrackId(track),
            key: true,
        })
    }

    /// AAC of which a publisher has not said what it is like.
    fn vague(codecs: &[Codec]) -> MediaEvent {
        let MediaEvent::Tracks(all) = tracks(codecs) else { return MediaEvent::End };
        let vague = all.iter().map(|track| match track.codec {
            Codec::Aac => Track { config: Bytes::new(), ..track.clone() },
            _ => track.clone(),
        });
        MediaEvent::Tracks(Tracks::new(vague.collect(), Bytes::new()))
    }

    /// What came through, in short: the number of tracks in brackets, a frame's milliseconds, the end.
    fn shown(out: &mut Vec<MediaEvent>) -> String {
        let word = |event| match event {
            MediaEvent::Tracks(tracks) => format!("[{}]", tracks.len()),
            MediaEvent::Frame(frame) => frame.dts.as_millis().to_string(),
            MediaEvent::End => "end".to_owned(),
        };
        out.drain(..).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_beginning_is_held_until_all_have_been_heard() {
        use Codec::{Aac, H264, Script};
        let both = || tracks(&[H264, Aac]);
        let rows: Vec<(&str, Vec<MediaEvent>, &str)> = vec![
            ("both come", vec![both(), frame(0, 1), frame(0, 2), frame(SOUND, 3), frame(0, 4)], "[2] 1 2 3 4"),
            ("picture alone", vec![tracks(&[H264]), frame(0, 1), frame(0, 2)], "[1] 1 2"),
            ("nobody waits for data", vec![tracks(&[H264, Script]), frame(0, 1), frame(1, 2)], "[1] 1 [2] 2"),
            ("data alone opens nothing", vec![tracks(&[Script]), frame(0, 1), frame(0, 2)], ""),
            ("silent sound", vec![both(), frame(0, 1), frame(0, 500), frame(0, 501), frame(0, 502)], "[1] 1 500 501 502"),
            ("sound that is late", vec![both(), frame(0, 0), frame(0, 500), frame(SOUND, 600)], "[1] 0 500 [2] 600"),
            (
                "another track, later",
                vec![tracks(&[H264]), frame(0, 1), both(), frame(0, 2), frame(SOUND, 3)],
                "[1] 1 [1] 2 [2] 3",
            ),
            ("more than is held", vec![both(), frame(0, 1), frame(0, 2), frame(0, 3), frame(0, 4)], "[1] 1 2 3 4"),
            ("an early end", vec![both(), frame(0, 1), MediaEvent::End], "[1] 1 end"),
        ];
        for (name, events, expected) in rows {
            let (mut gate, mut out) = (TrackGate::new(350), Vec::new());
            events.into_iter().for_each(|event| gate.push(event, &mut out));
            assert_eq!(shown(&mut out), expected, "{name}");
            assert!(gate.held_bytes() <= 350, "{name}");
        }
    }

    #[test]
    fn what_is_held_can_be_forgotten() {
        let (mut gate, mut out) = (TrackGate::new(1_000), Vec::new());
        [tracks(&[Codec::H264, Codec::Aac]), frame(0, 1)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(gate.held_bytes(), 100);
        gate.forget();
        assert_eq!(gate.held_bytes(), 0);
        [frame(0, 2), frame(SOUND, 3)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[2] 2 3");
    }

    #[test]
    fn the_next_publisher_is_believed_for_a_while() {
        let both = || tracks(&[Codec::H264, Codec::Aac]);
        let (mut gate, mut out) = (TrackGate::new(1_000), Vec::new());
        [both(), frame(0, 1), frame(SOUND, 2)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[2] 1 2");
        gate.begin_segment();
        [both(), frame(0, 10), frame(0, 500)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[2] 10 500", "nothing is held, the sound may come");
        [frame(0, 510), frame(0, 520)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[1] 510 520", "it did not");
        gate.push(frame(SOUND, 600), &mut out);
        assert_eq!(shown(&mut out), "[2] 600");
        // What it is like is not yet known: nobody could play it.
        gate.begin_segment();
        [vague(&[Codec::H264, Codec::Aac]), frame(0, 700)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[1] 700");
        [both(), frame(SOUND, 710)].into_iter().for_each(|event| gate.push(event, &mut out));
        assert_eq!(shown(&mut out), "[2] 710");
    }
}
