//! The series of the platform of GB/T 28181: devices, calls, and what became of SIP messages. Only where it is enabled.

use std::fmt;

use super::{Labels, Writer};
use crate::control::gb28181::{CountersView, Desk};
use crate::protocol::gb28181::platform::ask::{Answer, Ask};
use crate::protocol::gb28181::platform::view::CallState;

/// The states of calls that run, and their labels.
const RUNNING: [(CallState, &str); 6] = [
    (CallState::Opening, "opening"),
    (CallState::Invited, "invited"),
    (CallState::Answered, "answered"),
    (CallState::MediaSeen, "media_seen"),
    (CallState::TracksFound, "tracks_found"),
    (CallState::Playing, "playing"),
];

/// What a scrape shows of it.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// `None`: it does not answer.
    online: Option<(u64, u64)>,
    calls: Option<[u64; RUNNING.len()]>,
    counters: CountersView,
}

impl Platform {
    pub async fn look(desk: &Desk) -> Self {
        let online = match desk.ask(Ask::Devices).await {
            Ok(Answer::Devices(devices)) => {
                let online = devices.iter().filter(|device| device.online).count();
                Some((online as u64, (devices.len() - online) as u64))
            }
            _ => None,
        };
        let calls = match desk.ask(Ask::Calls).await {
            Ok(Answer::Calls(calls)) => {
                Some(RUNNING.map(|(state, _)| calls.iter().filter(|call| call.state == state).count() as u64))
            }
            _ => None,
        };
        Platform { online, calls, counters: desk.counters() }
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let by = |label: &'static str, value: &str| -> Labels { vec![(label, value.to_owned())] };
        let devices = self.online.map(|(online, offline)| [("online", online), ("offline", offline)]);
        writer.gauge(
            ("gb28181_devices", None, "Devices that are known, by state"),
            devices.into_iter().flatten().map(|(state, count)| (by("state", state), count)),
        )?;
        let calls = self.calls.into_iter().flat_map(|counts| RUNNING.into_iter().zip(counts));
        writer.gauge(
            ("gb28181_calls", None, "Calls that run, by state"),
            calls.map(|((_, state), count)| (by("state", state), count)),
        )?;
        writer.gauge(
            ("gb28181_connections", None, "TCP connections that carry SIP"),
            [(Labels::new(), self.counters.connections)],
        )?;
        writer.counter(
            ("gb28181_received_messages", None, "SIP messages in, by transport"),
            self.counters.received.map(|(way, count)| (by("transport", way), count)),
        )?;
        writer.counter(
            ("gb28181_sent_messages", None, "SIP messages out, by transport"),
            self.counters.sent.map(|(way, count)| (by("transport", way), count)),
        )?;
        writer.counter(
            ("gb28181_dropped", None, "SIP messages and connections that the transport dropped, by reason"),
            self.counters.dropped.iter().map(|(reason, count)| (by("reason", reason), *count)),
        )?;
        writer.counter(
            ("gb28181_refused", None, "What the platform refused, and calls that failed, by reason"),
            self.counters.refused.iter().map(|(reason, count)| (by("reason", reason), *count)),
        )?;
        writer.counter(
            ("gb28181_left_out_log_lines", None, "Lines that the log does not have because there were too many in a second"),
            [(Labels::new(), self.counters.notes_left_out)],
        )
    }
}
