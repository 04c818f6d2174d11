//! From what a client says in `connect`, `publish` and `play` to the stream's name and the parameters of its URL.
//!
//! Clients cut `rtmp://host/app/instance/name?query` at different slashes, and the query may stand in `tcUrl`, in the app or in the
//! name. So app and name are joined and read as one path. Limits: those of [`StreamKey`] and [`Query`].

use crate::format::HevcForm;
use crate::protocol::common::url::{Query, percent_decode, split_query};
use crate::session::{Start, StreamKey, StreamKeyError};

/// A stream and how it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub key: StreamKey,
    pub query: Query,
}

impl Target {
    pub fn parse(tc_url: &str, app: &str, name: &str) -> Result<Target, StreamKeyError> {
        let (name, name_query) = split_query(name);
        let (app, app_query) = split_query(app);
        let mut query = Query::parse(name_query);
        query.extend(app_query);
        query.extend(split_query(tc_url).1);
        let name = name.trim_matches('/');
        let name = ["flv:", "mp4:"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let path = format!("{}/{}", app.trim_matches('/'), name.trim_matches('/'));
        let path = percent_decode(&path).ok_or(StreamKeyError::BadCharacter)?;
        // Where one of them is missing, so is the slash between them.
        let segments: Vec<&str> = path.trim_matches('/').split('/').filter(|segment| *segment != "_definst_").collect();
        Ok(Target { key: StreamKey::parse(&segments.join("/"))?, query })
    }

    /// `?hevc=legacy|enhanced`.
    pub fn hevc(&self) -> Option<HevcForm> {
        match self.query.get("hevc")? {
            "legacy" => Some(HevcForm::Legacy),
            "enhanced" => Some(HevcForm::Enhanced),
            _ => None,
        }
    }

    /// `?start=live|gop`.
    pub fn start(&self) -> Start {
        self.query.start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases: [(&str, &str, &str, Result<&str, StreamKeyError>); 19] = [
            ("plain", "live", "s1", Ok("live/s1")),
            ("query in the name", "live", "s1?token=a", Ok("live/s1")),
            ("query in the app", "live?token=a", "s1", Ok("live/s1")),
            ("cut late", "live/room", "s1", Ok("live/room/s1")),
            ("cut early", "live", "room/s1", Ok("live/room/s1")),
            ("slashes at the seams", "/live/", "/s1", Ok("live/s1")),
            ("instance", "live/_definst_", "s1", Ok("live/s1")),
            ("prefix", "live", "flv:s1", Ok("live/s1")),
            ("other prefix", "live", "mp4:a/s1", Ok("live/a/s1")),
            ("percent-encoded", "live", "a%20b", Ok("live/a b")),
            ("no app", "", "s1", Err(StreamKeyError::NoApp)),
            ("no name", "live", "", Err(StreamKeyError::NoApp)),
            ("only a query", "live", "?a=b", Err(StreamKeyError::NoApp)),
            ("all in the app, as encoders do whose key is left empty", "live/s1", "", Ok("live/s1")),
            ("a slash at the end", "live/s1/", "", Ok("live/s1")),
            ("upwards", "live", "../s1", Err(StreamKeyError::BadSegment)),
            ("upwards, encoded", "live", "%2e%2e/s1", Err(StreamKeyError::BadSegment)),
            ("broken escape", "live", "s%zz", Err(StreamKeyError::BadCharacter)),
            ("NUL", "live", "s\0", Err(StreamKeyError::BadCharacter)),
        ];
        for (name, app, stream, expected) in cases {
            let key = Target::parse("rtmp://h/live", app, stream).map(|target| target.key.to_string());
            assert_eq!(key.as_deref(), expected.as_ref().map(|key| *key), "{name}");
        }
    }

    #[test]
    fn parameters_from_three_places() {
        let cases = [
            ("nowhere", "rtmp://h/live", "live", "s", (None, Start::Gop)),
            ("name", "rtmp://h/live", "live", "s?hevc=legacy&start=live", (Some(HevcForm::Legacy), Start::Live)),
            ("app", "rtmp://h/live", "live?hevc=enhanced", "s?start=gop", (Some(HevcForm::Enhanced), Start::Gop)),
            ("tcUrl", "rtmp://h/live?hevc=legacy&start=live", "live", "s", (Some(HevcForm::Legacy), Start::Live)),
            ("the name wins", "rtmp://h/live?hevc=legacy", "live", "s?hevc=enhanced", (Some(HevcForm::Enhanced), Start::Gop)),
            ("unknown values", "rtmp://h/live", "live", "s?hevc=x&start=x", (None, Start::Gop)),
        ];
        for (name, tc_url, app, stream, expected) in cases {
            let target = Target::parse(tc_url, app, stream).unwrap();
            assert_eq!((target.hevc(), target.start()), expected, "{name}");
        }
    }
}
