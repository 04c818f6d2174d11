//! The names of streams that calls bring ⇄ what is called for.
//!
//! | name | stream |
//! |---|---|
//! | `gb/{device}/{channel}` | live, the main stream |
//! | `gb/{device}/{channel}/sub` | live, stream number 1 |
//! | `gb/{device}/{channel}/sub2` | live, stream number 2, and so on; not on demand, as viewers would call one camera 255 times |
//! | `gb/{device}/{channel}/playback-{call}`, `…/download-{call}` | recorded; not on demand |

use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::ask::Channel;
use crate::protocol::gb28181::platform::view::CallKind;
use crate::session::{StreamKey, StreamKeyError};

const FOLDER: &str = "gb";
const SUB: &str = "sub";

/// The name of a call that receives.
pub fn stream_key(kind: CallKind, of: &Channel, stream_number: Option<u8>, call: CallId) -> Result<StreamKey, StreamKeyError> {
    let live = format!("{FOLDER}/{}/{}", of.device, of.channel);
    if of.device.contains('/') || of.channel.contains('/') {
        return Err(StreamKeyError::BadSegment);
    }
    StreamKey::parse(&match (kind, stream_number) {
        (CallKind::Playback, _) => format!("{live}/playback-{}", call.0),
        (CallKind::Download, _) => format!("{live}/download-{}", call.0),
        (_, None | Some(0)) => live,
        (_, Some(1)) => format!("{live}/{SUB}"),
        (_, Some(number)) => format!("{live}/{SUB}{number}"),
    })
}

/// What is to be called for a name, and its stream number. `None`: nothing that is brought on demand.
pub fn wanted(key: &StreamKey) -> Option<(Channel, Option<u8>)> {
    let mut segments = key.as_str().split('/');
    let (folder, device, channel) = (segments.next()?, segments.next()?, segments.next()?);
    let number = match segments.next() {
        None => None,
        Some(SUB) => Some(1),
        Some(_) => return None,
    };
    let is_name = folder == FOLDER && segments.next().is_none();
    is_name.then(|| (Channel { device: device.to_owned(), channel: channel.to_owned() }, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_they_stand_for() {
        let of = Channel { device: "d".to_owned(), channel: "c".to_owned() };
        let key = |kind, number| stream_key(kind, &of, number, CallId(7)).unwrap();
        for number in [None, Some(1)] {
            assert_eq!(wanted(&key(CallKind::Play, number)), Some((of.clone(), number)));
        }
        for number in 2..=255 {
            assert_eq!(wanted(&key(CallKind::Play, Some(number))), None, "viewers do not call one camera {number} times");
        }
        assert_eq!(key(CallKind::Play, Some(0)).as_str(), "gb/d/c");
        assert_eq!(key(CallKind::Playback, Some(1)).as_str(), "gb/d/c/playback-7");
        for text in ["gb/d", "live/d/c", "gb/d/c/sub/x", "gb/d/c/sub1", "gb/d/c/subx", "gb/d/c/playback-7", "gb/d/c/sub256"] {
            assert_eq!(wanted(&StreamKey::parse(text).unwrap()), None, "{text}");
        }
        let odd = Channel { channel: "a/../b".to_owned(), ..of };
        assert!(stream_key(CallKind::Play, &odd, None, CallId(7)).is_err());
    }
}
