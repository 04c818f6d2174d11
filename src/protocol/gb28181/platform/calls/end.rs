//! Why calls end: the kinds that are counted, and the words.

use crate::protocol::gb28181::sip::message::Response;

/// Of records.
pub const ALL_SENT: &str = "all that was recorded has been sent";

/// The kind of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// As somebody wished: the operator, the last viewer, the device, the end of what was recorded.
    Wish,
    /// A device has not answered.
    Silence,
    /// A device has said no.
    Refused,
    /// A device has answered with what cannot be understood.
    BadAnswer,
    /// No port, no connection.
    NoReceiver,
    /// Media has not come, or comes no more.
    NoMedia,
    /// The device is not there any more.
    Gone,
    /// Too much is under way.
    Full,
}

impl Cause {
    pub const fn is_failure(self) -> bool {
        !matches!(self, Cause::Wish)
    }

    /// The label under which it is counted.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Cause::Wish => None,
            Cause::Silence => Some("call_silence"),
            Cause::Refused => Some("call_refused"),
            Cause::BadAnswer => Some("call_bad_answer"),
            Cause::NoReceiver => Some("call_no_receiver"),
            Cause::NoMedia => Some("call_no_media"),
            Cause::Gone => Some("call_device_gone"),
            Cause::Full => Some("call_full"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub cause: Cause,
    /// One clause for an operator.
    pub words: String,
}

impl End {
    pub fn new(cause: Cause, words: impl Into<String>) -> Self {
        End { cause, words: words.into() }
    }

    /// Nothing has come for `ms`.
    pub fn silence(ms: u64) -> Self {
        End::new(Cause::Silence, format!("no SIP answer in {}", seconds(ms)))
    }

    pub fn refused(response: &Response) -> Self {
        let meaning = match response.status {
            400 => ": it cannot understand the INVITE",
            401 | 407 => ": it asks for a password",
            403 => ": it does not allow it",
            404 => ": it knows no such channel",
            408 => ": it has not reached the channel",
            480 => ": the channel is not there now",
            486 | 600 => ": it serves as many as it can",
            488 | 606 => ": it cannot send what was asked for",
            _ => "",
        };
        End::new(Cause::Refused, format!("the device has refused: {}{meaning}", response.words()))
    }
}

/// Whole seconds are said as such.
pub fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}
