//! RTP (RFC 3550): the parts that every user of RTP needs, whatever carries the packets.
//!
//! Not here: payload formats, reordering, RTCP, and the transport.

mod header;

pub use header::{RtpHeader, RtpHeaderError};
