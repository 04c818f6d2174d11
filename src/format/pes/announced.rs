//! What a demuxer has said of its tracks: a picture and a sound at most, told again whenever one appears or changes.

use bytes::Bytes;

use super::video::Setup;
use crate::format::rtp::demux::Demuxed;
use crate::media::{MediaEvent, Track, TrackId, Tracks};

pub const VIDEO: TrackId = TrackId(0);
pub const AUDIO: TrackId = TrackId(1);

#[derive(Clone, Debug, Default)]
pub struct Announced(Tracks);

impl Announced {
    /// Says what there is, if that is new.
    pub fn tell(&mut self, video: Option<Setup>, audio: Option<Setup>, out: &mut Vec<Demuxed>) {
        let track = |id, Setup { codec, config, shape }| Track { id, codec, config, shape };
        let video = video.map(|setup| track(VIDEO, setup));
        let audio = audio.map(|setup| track(AUDIO, setup));
        let tracks = || video.iter().chain(&audio);
        if tracks().eq(self.0.iter()) {
            return;
        }
        self.0 = Tracks::new(tracks().cloned().collect(), Bytes::new());
        out.push(Demuxed::Event(MediaEvent::Tracks(self.0.clone())));
    }
}
