//! One call: what it is for, how far it has come, and how it is shown.

use std::net::SocketAddr;

use super::end::End;
use crate::config::MediaTransport;
use crate::media::Stamp;
use crate::protocol::gb28181::platform::ask::Channel;
use crate::protocol::gb28181::platform::view::{CallKind, CallState, CallView};
use crate::protocol::gb28181::platform::{CallId, Ticket};
use crate::protocol::gb28181::sdp::Description;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::Request;
use crate::protocol::gb28181::sip::transaction::{ClientId, ServerId};
use crate::session::{Reception, ReceptionState, Sending, SendingState, StreamKey};

/// How far it has come.
#[derive(Debug)]
pub enum Phase {
    /// A shard is asked for a port; then comes the INVITE.
    Opening,
    /// The INVITE is out.
    Inviting { client: ClientId, invite: Box<Request>, has_provisional: bool },
    /// Answered; a shard connects to the device.
    Connecting,
    /// Answered; media comes or is to come.
    Running,
    /// Over, but for what may still be on its way.
    Draining(End),
    /// A talk: the device is asked to call, by the MESSAGE with this number.
    Announced { sn: u64 },
    /// A talk: the device has called, and a shard is asked for a sender.
    Accepting { server: ServerId, invite: Box<Request>, offer: Box<Description> },
}

#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    pub kind: CallKind,
    pub of: Channel,
    pub key: StreamKey,
    pub transport: MediaTransport,
    pub stream_number: Option<u8>,
    /// Of recordings: seconds since 1970, and how fast.
    pub span: (u64, u64),
    pub speed: Option<u32>,
    pub ssrc: Option<u32>,
    /// Of ours, to be given back.
    pub taken_ssrc: Option<u32>,
    /// The way that the device was last heard of.
    pub hop: Hop,
    pub phase: Phase,
    pub dialog: Option<Dialog>,
    /// A receiver or sender is there or asked for.
    pub has_media_session: bool,
    pub port: Option<u16>,
    pub reception: Option<Reception>,
    pub sending: Option<Sending>,
    /// Something of the answer that is not as it should be.
    pub remark: Option<String>,
    pub began: Stamp,
    pub invited: Option<Stamp>,
    pub answered: Option<Stamp>,
    pub media: Option<Stamp>,
    /// Packets of media so far, and when the last came.
    pub heard: (u64, Stamp),
    pub is_paused: bool,
    /// The next thing that is due.
    pub due: Option<Stamp>,
    /// Who waits for the answer of the device.
    pub tickets: Vec<Ticket>,
    /// Numbers of MANSRTSP requests.
    pub controls: u32,
    /// A viewer has begun it.
    pub is_on_demand: bool,
    /// Since when it is asked whether the device still knows it.
    pub probed: Option<Stamp>,
    /// It has answered that before: its silence says something.
    pub answers_probes: bool,
    /// The device has said that records are at their end: of this call, or of another one with the same channel.
    pub end_told: bool,
}

impl Call {
    /// One that is about to begin.
    pub fn new(id: CallId, kind: CallKind, of: Channel, key: StreamKey, hop: Hop, now: Stamp) -> Self {
        Call {
            id,
            kind,
            of,
            key,
            transport: MediaTransport::default(),
            stream_number: None,
            span: (0, 0),
            speed: None,
            ssrc: None,
            taken_ssrc: None,
            hop,
            phase: Phase::Opening,
            dialog: None,
            has_media_session: false,
            port: None,
            reception: None,
            sending: None,
            remark: None,
            began: now,
            invited: None,
            answered: None,
            media: None,
            heard: (0, now),
            is_paused: false,
            due: None,
            tickets: Vec::new(),
            controls: 0,
            is_on_demand: false,
            probed: None,
            answers_probes: false,
            end_told: false,
        }
    }

    pub fn is_recorded(&self) -> bool {
        matches!(self.kind, CallKind::Playback | CallKind::Download)
    }

    /// Media has come.
    pub fn plays(&self) -> bool {
        self.media.is_some()
    }

    fn state(&self) -> CallState {
        match &self.phase {
            Phase::Opening => CallState::Opening,
            Phase::Inviting { .. } | Phase::Announced { .. } | Phase::Accepting { .. } => CallState::Invited,
            Phase::Connecting => CallState::Answered,
            Phase::Draining(end) => ended_state(end),
            Phase::Running => self.running_state(),
        }
    }

    fn running_state(&self) -> CallState {
        let of_sending = self.sending.as_ref().map(|sending| match sending.state {
            SendingState::Sending => CallState::Playing,
            SendingState::Waiting | SendingState::Ended => CallState::Answered,
        });
        let of_reception = self.reception.as_ref().map(|reception| match reception.state {
            ReceptionState::Waiting | ReceptionState::Ended => CallState::Answered,
            ReceptionState::MediaSeen => CallState::MediaSeen,
            ReceptionState::TracksFound => CallState::TracksFound,
            ReceptionState::Playing => CallState::Playing,
        });
        of_sending.or(of_reception).unwrap_or(CallState::Answered)
    }

    fn detail(&self) -> String {
        let mut detail = match &self.phase {
            Phase::Opening => "a port is asked for".to_owned(),
            Phase::Inviting { has_provisional: false, .. } => "INVITE sent".to_owned(),
            Phase::Inviting { .. } => "INVITE sent, the device is at it".to_owned(),
            Phase::Announced { .. } => "the device is asked to call".to_owned(),
            Phase::Accepting { .. } => "the device has called, a sender is asked for".to_owned(),
            Phase::Connecting => "answered, connecting to the device".to_owned(),
            Phase::Draining(end) => end.words.clone(),
            Phase::Running => self.running_detail(),
        };
        if self.is_paused {
            detail += "; paused";
        }
        if let Some(remark) = &self.remark {
            detail += &format!("; {remark}");
        }
        detail
    }

    fn running_detail(&self) -> String {
        let of_reception = || self.reception.as_ref().map(|reception| reception.detail.as_str());
        let says = self.sending.as_ref().map(|sending| sending.detail.as_str()).or_else(of_reception);
        match says {
            None if self.kind == CallKind::Talk => "answered, the stream is about to be sent".to_owned(),
            None => "answered, waiting for media".to_owned(),
            Some(says) if self.plays() => says.to_owned(),
            Some(says) => format!("answered, {says}"),
        }
    }

    pub fn view(&self, now: Stamp) -> CallView {
        let reception = self.reception.as_ref();
        let source = reception.and_then(|reception| reception.source).or(self.sending.as_ref().and_then(|sending| sending.to));
        CallView {
            id: self.id,
            kind: self.kind,
            device: self.of.device.clone(),
            channel: self.of.channel.clone(),
            stream: self.key.to_string(),
            state: self.state(),
            detail: self.detail(),
            transport: transport_name(self.transport),
            port: reception.and_then(|reception| reception.port).or(self.port),
            ssrc: reception.and_then(|reception| reception.ssrc).or(self.ssrc),
            source: source.map(|source: SocketAddr| source.to_string()),
            tracks: match (&self.sending, reception) {
                (Some(sending), _) => sending.tracks.clone(),
                (None, reception) => reception.map(|reception| reception.tracks.clone()).unwrap_or_default(),
            },
            packets: reception.map(|reception| reception.received).unwrap_or_default(),
            age_ms: now.millis_since(self.began),
            lasted_ms: None,
            answered_ms: self.since_invite(self.answered),
            media_ms: self.since_invite(self.media),
        }
    }

    fn since_invite(&self, stamp: Option<Stamp>) -> Option<u64> {
        Some(stamp?.millis_since(self.invited?))
    }
}

/// A call that is over.
#[derive(Debug)]
pub struct Ended {
    view: CallView,
    began: Stamp,
}

impl Ended {
    pub fn new(call: &Call, end: &End, now: Stamp) -> Self {
        let detail = match &call.remark {
            Some(remark) => format!("{}; {remark}", end.words),
            None => end.words.clone(),
        };
        let lasted_ms = Some(now.millis_since(call.began));
        Ended { view: CallView { state: ended_state(end), detail, lasted_ms, ..call.view(now) }, began: call.began }
    }

    pub fn id(&self) -> CallId {
        self.view.id
    }

    pub fn view(&self, now: Stamp) -> CallView {
        CallView { age_ms: now.millis_since(self.began), ..self.view.clone() }
    }
}

fn ended_state(end: &End) -> CallState {
    if end.cause.is_failure() { CallState::Failed } else { CallState::Ended }
}

const fn transport_name(transport: MediaTransport) -> &'static str {
    match transport {
        MediaTransport::Udp => "udp",
        MediaTransport::TcpPassive => "tcp_passive",
        MediaTransport::TcpActive => "tcp_active",
    }
}
