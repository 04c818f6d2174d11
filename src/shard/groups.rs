//! Multicast: one group per stream, sent by the stream's owner as if the group were one viewer.
//!
//! The first member makes the group, the last one ends it. The group's viewer is a connection without peer and without bytes of its
//! own; it begins at the next keyframe, so that every member gets a picture with its parameter sets.

use super::conn::{Datagrams, Pair, Playing, StreamIndex};
use super::core::{Answer, Core, Ports};
use super::flush::viewer_place;
use super::streams::Source;
use crate::format::Format;
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::session::{Delivery, Group, Input, Output, PairTarget, PlayRequest, Refusal, Session, SessionError, Start, StreamKey};

/// A stream's group, its viewer, and who listens.
pub struct StreamGroup {
    pub group: Group,
    handle: usize,
    viewer: ConnIndex,
    members: Vec<ConnIndex>,
}

/// The session of a group's viewer: it has nobody to talk to.
struct GroupViewer;

impl Session for GroupViewer {
    fn handle(&mut self, _now: Stamp, _input: Input<'_>, _out: &mut Vec<Output>) -> Result<(), SessionError> {
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        None
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

impl<P: Ports> Core<P> {
    pub(super) fn join_group(&mut self, index: ConnIndex, now: Stamp, key: StreamKey, format: Format, protocol: &'static str) {
        self.leave_group(index, now);
        let here = self.by_key.get(&key).copied().filter(|at| matches!(self.streams[*at].source, Source::Owner { .. }));
        let Some(at) = here.filter(|at| self.streams[*at].stream.settled()) else {
            return match self.directory.owner(&key).filter(|owner| *owner != self.id) {
                Some(owner) => self.move_to(index, owner, Output::JoinGroup { key, format, protocol }),
                None => self.answer(index, Answer::Refused(Refusal::NotFound)),
            };
        };
        if self.streams[at].group.is_none() && !self.begin_group(now, at, key, format, protocol) {
            log::warn!("{}: no multicast group is left", self.streams[at].stream.key);
            return self.answer(index, Answer::Refused(Refusal::LimitReached));
        }
        let Some(group) = &mut self.streams[at].group else { return };
        group.members.push(index);
        let (group, viewer) = (group.group, group.viewer);
        let conn = &mut self.conns[index];
        conn.group = Some(at);
        conn.moves = 0;
        self.answer(index, Answer::GroupJoined(group));
        self.tell_clocks(viewer);
    }

    /// The newest sender reports go to the group once more: a member that has just come would have no common time of picture and sound
    /// until the next keyframe.
    fn tell_clocks(&mut self, viewer: ConnIndex) {
        let Some((at, fanout_at)) = viewer_place(&self.conns[viewer].playing, &self.streams) else { return };
        self.conns[viewer].out.repeat_config(&self.streams[at].stream.fanouts[fanout_at].ring);
        self.mark_conn(viewer);
    }

    fn begin_group(&mut self, now: Stamp, at: StreamIndex, key: StreamKey, format: Format, protocol: &'static str) -> bool {
        let Some(opened) = self.ports.open_group() else { return false };
        let viewer = self.insert(now, Box::new(GroupViewer), protocol);
        let group = opened.group;
        // For the log and the API: it sends there, and nothing ever comes from it.
        self.conns[viewer].peer = Some((group.address, group.video_port).into());
        let pair = |id, port: u16| {
            let target = PairTarget { pair: id, rtp: (group.address, port).into(), rtcp: (group.address, port + 1).into() };
            Some((Pair { id, handle: None, rtp: opened.socket, rtcp: opened.socket }, target))
        };
        let request = PlayRequest { key, format, start: Start::Live, delivery: Delivery::Connection, protocol };
        let (video, audio) = (pair(0, group.video_port), pair(1, group.audio_port));
        self.attach_with(viewer, at, request, Some(Datagrams { video, audio, paced_until: Stamp::ZERO }));
        let stream_group = StreamGroup { group, handle: opened.handle, viewer, members: Vec::new() };
        self.streams[at].group = Some(stream_group);
        log::info!("{}: sent to {}", self.streams[at].stream.key, group.address);
        true
    }

    pub(super) fn leave_group(&mut self, index: ConnIndex, now: Stamp) {
        let Some(at) = self.conns[index].group.take() else { return };
        let Some(group) = &mut self.streams[at].group else { return };
        group.members.retain(|member| *member != index);
        if group.members.is_empty() {
            self.end_group(at, now);
        }
    }

    /// Ends the group of a stream and tells its members, if there are any.
    pub(super) fn end_group(&mut self, at: StreamIndex, now: Stamp) {
        let Some(group) = self.streams[at].group.take() else { return };
        log::info!("{}: no longer sent to {}", self.streams[at].stream.key, group.group.address);
        for member in group.members {
            self.conns[member].group = None;
            self.answer(member, Answer::Ended);
        }
        self.stop_playing(group.viewer, now);
        self.forget(group.viewer);
        self.ports.close_group(group.handle);
    }

    /// The stream of which this connection is the group's viewer.
    pub(super) fn group_viewed(&self, index: ConnIndex) -> Option<StreamIndex> {
        let Playing::Viewing { stream, .. } = self.conns.get(index)?.playing else { return None };
        let group = self.streams[stream].group.as_ref()?;
        (group.viewer == index).then_some(stream)
    }
}
