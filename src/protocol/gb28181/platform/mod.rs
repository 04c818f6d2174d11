//! The platform that devices register with: who is there, what they have, and the calls that bring their media. Sans-IO.
//!
//! SIP messages, the time, the operator's wishes and news of media go in; what is to be sent and done comes out, in order. Media itself
//! never passes here: a call asks for a receiver on a shard, and hears what becomes of it.

pub mod ask;
pub mod calls;
pub mod context;
pub mod devices;
#[cfg(test)]
mod tests;
pub mod view;
mod whole;

pub use self::devices::Saved;
pub use self::whole::Platform;

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::ask::{Answer, Ask};
use super::sip::{ConnectionId, Hop};
use super::{receiver, sender};
use crate::media::Stamp;
use crate::session::{ExpectedSource, Reception, Sending, StreamKey};

/// The two times that the platform knows.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// For whatever waits.
    pub now: Stamp,
    /// For dates in messages: milliseconds since 1970, UTC.
    pub unix_ms: u64,
}

/// Names the media of a call between the platform and who carries its outputs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// Names a question of the operator until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the platform is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// One whole SIP message: a datagram, or cut out of a connection.
    Message { hop: Hop, bytes: &'a [u8] },
    /// A connection is over.
    Closed(ConnectionId),
    /// `next_timeout` has passed.
    Timeout,
    /// A viewer waits for a stream of a name that calls can bring; repeated as long as it waits.
    Wanted(StreamKey),
    /// Answers [`Output::OpenReceiver`]: the port where it receives (0 where it has connected by itself), or why there is none.
    ReceiverOpened { call: CallId, port: Result<u16, String> },
    /// What the receiver of a call says of itself: when it has changed, and when it is over.
    Reception { call: CallId, reception: Reception },
    /// Answers [`Output::OpenSender`]: the port that it sends from or where it waits for somebody to connect (0 where it has connected by
    /// itself), or why there is none.
    SenderOpened { call: CallId, port: Result<u16, String> },
    /// What the sender of a call says of itself: when it has changed, and when it is over.
    Sending { call: CallId, sending: Sending },
    /// Answers [`Output::Reach`]: the way there, or why there is none.
    Reached { to: SocketAddr, hop: Result<Hop, String> },
    /// The names of all streams that can be viewed now; told again and again to a platform that [`Output::ListStreams`].
    Streams(Vec<StreamKey>),
    /// The process is about to end: say goodbye.
    Finishing,
    /// The operator asks; answered by one [`Output::Answer`] with the same ticket, at once or later.
    Ask { ticket: Ticket, ask: Ask },
}

/// What the platform wants done, in order.
#[derive(Debug)]
pub enum Output {
    Send {
        hop: Hop,
        bytes: Bytes,
    },
    /// Close a connection.
    Hangup(ConnectionId),
    /// Start a receiver on a shard.
    OpenReceiver {
        call: CallId,
        request: receiver::Request,
    },
    CloseReceiver(CallId),
    /// The receiver is to expect another source: the device has said so.
    ExpectSource {
        call: CallId,
        source: ExpectedSource,
    },
    /// Start a sender on a shard.
    OpenSender {
        call: CallId,
        request: sender::Request,
    },
    CloseSender(CallId),
    /// Find the way to another platform, which need not have been heard of: over TCP a connection is made.
    Reach {
        to: SocketAddr,
        tcp: bool,
    },
    /// Tell from now on, once a second, which streams there are.
    ListStreams,
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
    /// A device has come or gone, or its channels are others. For the cascade.
    DeviceChanged(String),
    /// What survives a restart has changed.
    Save,
    /// Of what survives a restart only times have changed: there is no hurry.
    SaveLater,
    /// For the log; counted under `reason` if there is one.
    Note {
        level: log::Level,
        reason: Option<&'static str>,
        message: String,
    },
}
