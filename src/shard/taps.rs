//! Who takes all events of a stream on its owner's shard, besides viewers and other shards: once per turn, in order, behind the gate and on
//! the stream's timeline.
//!
//! They are the packager of HLS, recorders, and what is kept for recordings that are yet to be wished.
//!
//! A tap that begins is first given what brings it up to date ([`Core::begin_tap`]), then everything. It does bounded work and waits for nobody.

use super::conn::StreamIndex;
use super::core::{Core, Ports};
use super::pre_roll::PreRoll;
use super::recorders::StreamRecorders;
use super::segments::Segmented;
use crate::media::MediaEvent;

/// The taps of one stream.
#[derive(Default)]
pub struct Taps {
    /// Cuts it into segments.
    pub segmented: Option<Box<Segmented>>,
    pub recorders: StreamRecorders,
    /// `None`: nothing but the stream's own GOP.
    pub pre_roll: Option<Box<PreRoll>>,
}

impl Taps {
    pub fn is_empty(&self) -> bool {
        self.segmented.is_none() && self.recorders.is_empty() && self.pre_roll.is_none()
    }

    /// What is kept here alone.
    pub fn kept_bytes(&self) -> usize {
        self.pre_roll.as_ref().map_or(0, |pre_roll| pre_roll.bytes())
    }

    /// Whether somebody watches through them.
    pub fn has_viewers(&self) -> bool {
        self.segmented.as_ref().is_some_and(|segmented| segmented.has_viewers())
    }
}

impl<P: Ports> Core<P> {
    /// The events with which a new tap of a stream begins. What was collected before goes to the others first, so that none is given twice.
    pub(super) fn begin_tap(&mut self, at: StreamIndex) -> Vec<MediaEvent> {
        self.send_outgoing(at);
        self.streams[at].stream.catch_up_from_beginning()
    }

    /// Gives what has happened in this turn to the taps.
    pub(super) fn tap(&mut self, at: StreamIndex, events: &[MediaEvent]) {
        self.cut(at, events);
        self.feed_recorders(at, events);
        let slot = &mut self.streams[at];
        if let Some(pre_roll) = &mut slot.taps.pre_roll {
            pre_roll.push(slot.stream.tracks(), events);
        }
    }
}
