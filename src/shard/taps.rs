//! Who takes all events of a stream on its owner's shard, besides viewers and other shards: once per turn, in order, behind the gate and on
//! the stream's timeline.
//!
//! A tap that begins is first given what brings it up to date ([`Core::begin_tap`]), then everything. It does bounded work and waits for nobody.

use super::conn::StreamIndex;
use super::core::{Core, Ports};
use crate::media::MediaEvent;

/// The taps of one stream.
#[derive(Default)]
pub struct Taps {}

impl Taps {
    pub fn is_empty(&self) -> bool {
        true
    }
}

impl<P: Ports> Core<P> {
    /// The events with which a new tap of a stream begins. What was collected before goes to the others first, so that none is given twice.
    pub(super) fn begin_tap(&mut self, at: StreamIndex) -> Vec<MediaEvent> {
        self.send_outgoing(at);
        self.streams[at].stream.catch_up()
    }

    /// Gives what has happened in this turn to the taps.
    pub(super) fn tap(&mut self, _at: StreamIndex, _events: &[MediaEvent]) {}
}
