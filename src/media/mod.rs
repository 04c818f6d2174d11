//! What flows through the server: tracks, frames and the end of a stream.
//!
//! Every demuxer produces the canonical payloads named here and every muxer eats them, so no code converts one protocol
//! into another:
//!
//! | codec | `Frame::data` | `Track::config` |
//! |---|---|---|
//! | H.264, H.265 | the NAL units of one access unit, each behind a 4-byte length, no access unit delimiter | `avcC` / `hvcC` record, length size 4 |
//! | AV1, VP8, VP9 | one temporal unit / frame | `av1C` / `vpcC` record, may be empty |
//! | AAC | one raw frame, no ADTS | AudioSpecificConfig |
//! | Opus | one packet | `OpusHead` |
//! | MP3, G.711 | as on the wire | empty |
//! | script data | AMF0 values: name, then value | empty |
//!
//! This folder knows no container, no protocol and no socket.

pub mod aac;
pub mod audio_length;
pub mod av1;
pub mod codec_string;
pub mod frame;
pub mod gate;
pub mod gop;
pub mod h264;
pub mod h265;
pub mod latm;
pub mod mp3;
pub mod nal;
pub mod opus;
pub mod time;
pub mod timeline;
pub mod track;
pub mod vp9;

mod bits;

pub use audio_length::AudioLength;
pub use frame::{Discard, Frame, MediaEvent};
pub use gate::TrackGate;
pub use gop::Gop;
pub use time::{MediaTime, Stamp};
pub use track::{Codec, Track, TrackId, TrackKind, TrackShape, Tracks};
