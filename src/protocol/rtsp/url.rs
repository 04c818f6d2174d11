//! The URL of a request → the stream it names, its track, and its query.
//!
//! RFC 2326 §3.2, §C.1.1 (control URLs). Clients make the URL of a track by writing the control behind the URL of the stream, so that
//! it stands behind the query, if there is one: `rtsp://host/app/name?token=x/trackID=0`. Both places are understood. Credentials in
//! a URL are left out, slashes at the end too.
//!
//! Limits: the head of a request bounds everything. A [`Url`] owns its text. Not here: what a track number means.

use super::message::{Response, Status};
use crate::protocol::common::url::{Query, percent_decode, split_query};
use crate::session::{StreamKey, StreamKeyError};

/// What stands before the number of a track in the last segment of a URL.
const TRACK_WORDS: [&str; 4] = ["trackID=", "streamid=", "stream=", "track="];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Scheme, host and port.
    origin: String,
    /// Still encoded, without slashes around it.
    path: String,
    query: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("not an RTSP URL")]
    NotRtsp,
    #[error("the path has a broken percent-encoding")]
    Encoding,
    #[error(transparent)]
    Key(#[from] StreamKeyError),
}

impl From<UrlError> for Response {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::NotRtsp | UrlError::Encoding => Status::BadRequest.into(),
            // No stream can have that name.
            UrlError::Key(_) => Status::NotFound.into(),
        }
    }
}

impl Url {
    /// An absolute URL, or a path that begins with a slash.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (origin, rest) = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                (format!("{}://{host}", scheme.to_ascii_lowercase()), rest)
            }
            _ if text.starts_with('/') => (String::new(), text),
            _ => return Err(UrlError::NotRtsp),
        };
        let (path, query) = split_query(rest);
        Ok(Url { origin, path: path.trim_matches('/').to_owned(), query: query.trim_end_matches('/').to_owned() })
    }

    /// The name of the stream, if no track stands behind it.
    pub fn key(&self) -> Result<StreamKey, UrlError> {
        let path = percent_decode(&self.path).ok_or(UrlError::Encoding)?;
        Ok(StreamKey::parse(&path)?)
    }

    pub fn query(&self) -> Query {
        Query::parse(&self.query)
    }

    /// The host as it stands there, without port and brackets.
    pub fn host(&self) -> &str {
        let authority = self.origin.split_once("://").map_or("", |(_, authority)| authority);
        match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').map_or(v6, |(host, _)| host),
            None => authority.split_once(':').map_or(authority, |(host, _)| host),
        }
    }

    /// The whole URL, without credentials and without a slash at the end.
    pub fn text(&self) -> String {
        format!("{}{}", self.origin, self.tail())
    }

    fn tail(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("/{}{mark}{}", self.path, self.query)
    }

    /// Takes the track off the end: `trackID=1` and the like. `Some(None)`: it has a number that no track has.
    pub fn cut_track(&mut self) -> Option<Option<u8>> {
        for part in [&mut self.query, &mut self.path] {
            let Some((before, last)) = part.rsplit_once('/') else { continue };
            let number = TRACK_WORDS.iter().find_map(|word| {
                let (head, number) = last.split_at_checked(word.len())?;
                (head.eq_ignore_ascii_case(word) && !number.is_empty()).then_some(number)
            });
            if let Some(number) = number {
                let number = number.parse().ok();
                *part = before.trim_end_matches('/').to_owned();
                return Some(number);
            }
        }
        None
    }

    /// What stands behind `base`: empty for `base` itself. `None`: something else.
    pub fn behind(&self, base: &Url) -> Option<String> {
        let behind = |text: &str, base: &str| -> Option<String> {
            let rest = text.strip_prefix(base)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/').to_owned())
        };
        // Behind the query, or between path and query.
        behind(&self.tail(), &base.tail()).or_else(|| behind(&self.path, &base.path))
    }

    /// Whether `control`, which may be relative to `base` or absolute, names this URL.
    pub fn is_control(&self, base: &Url, control: &str) -> bool {
        match Url::parse(control) {
            Ok(absolute) if !absolute.origin.is_empty() => absolute.tail() == self.tail() || absolute.path == self.path,
            _ => {
                let control = control.trim_matches('/');
                self.behind(base).is_some_and(|behind| if control == "*" { behind.is_empty() } else { behind == control })
            }
        }
    }
}

fn is_scheme(scheme: &str) -> bool {
    ["rtsp", "rtsps", "rtspu"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_tracks() {
        type Expected = Result<(&'static str, Option<Option<u8>>, &'static str), UrlError>;
        let cases: &[(&str, Expected)] = &[
            ("rtsp://h/live/a", Ok(("live/a", None, "rtsp://h/live/a"))),
            ("RTSP://h:8554/live/a/", Ok(("live/a", None, "rtsp://h:8554/live/a"))),
            ("rtsps://h//live/a", Ok(("live/a", None, "rtsps://h/live/a"))),
            ("rtsp://u:p@h/live/a", Ok(("live/a", None, "rtsp://h/live/a"))),
            ("rtsp://u:p@ss@h/live/a", Ok(("live/a", None, "rtsp://h/live/a"))),
            ("rtsp://[::1]:8554/live/a", Ok(("live/a", None, "rtsp://[::1]:8554/live/a"))),
            ("/live/a", Ok(("live/a", None, "/live/a"))),
            ("rtsp://h/a/b/c", Ok(("a/b/c", None, "rtsp://h/a/b/c"))),
            ("rtsp://h/live/%E6%91%84%20x", Ok(("live/摄 x", None, "rtsp://h/live/%E6%91%84%20x"))),
            ("rtsp://h/live/a/trackID=0", Ok(("live/a", Some(Some(0)), "rtsp://h/live/a"))),
            ("rtsp://h/live/a/trackid=1/", Ok(("live/a", Some(Some(1)), "rtsp://h/live/a"))),
            ("rtsp://h/live/a//streamid=0", Ok(("live/a", Some(Some(0)), "rtsp://h/live/a"))),
            ("rtsp://h/live/a/stream=1", Ok(("live/a", Some(Some(1)), "rtsp://h/live/a"))),
            ("rtsp://h/live/a?token=x", Ok(("live/a", None, "rtsp://h/live/a?token=x"))),
            ("rtsp://h/live/a?token=x/", Ok(("live/a", None, "rtsp://h/live/a?token=x"))),
            ("rtsp://h/live/a?token=x/trackID=1", Ok(("live/a", Some(Some(1)), "rtsp://h/live/a?token=x"))),
            ("rtsp://h/live/a/trackID=1?token=x", Ok(("live/a", Some(Some(1)), "rtsp://h/live/a?token=x"))),
            ("rtsp://h/live/a?track=1", Ok(("live/a", None, "rtsp://h/live/a?track=1"))),
            ("rtsp://h/live/a/trackID=300", Ok(("live/a", Some(None), "rtsp://h/live/a"))),
            ("rtsp://h/live/a/trackID=x", Ok(("live/a", Some(None), "rtsp://h/live/a"))),
            ("rtsp://h/live/track1", Ok(("live/track1", None, "rtsp://h/live/track1"))),
            ("rtsp://h/live", Err(UrlError::Key(StreamKeyError::NoApp))),
            ("rtsp://h/?src=1&freq=100", Err(UrlError::Key(StreamKeyError::BadSegment))),
            ("rtsp://h", Err(UrlError::Key(StreamKeyError::BadSegment))),
            ("rtsp://h/live/../a", Err(UrlError::Key(StreamKeyError::BadSegment))),
            ("rtsp://h/live/%2e%2e/a", Err(UrlError::Key(StreamKeyError::BadSegment))),
            ("rtsp://h/live/%zz", Err(UrlError::Encoding)),
            ("http://h/live/a", Err(UrlError::NotRtsp)),
            ("*", Err(UrlError::NotRtsp)),
            ("", Err(UrlError::NotRtsp)),
        ];
        for (text, expected) in cases {
            let found = Url::parse(text).and_then(|mut url| {
                let track = url.cut_track();
                Ok((url.key()?.to_string(), track, url.text()))
            });
            assert_eq!(found, expected.map(|(key, track, text)| (key.to_owned(), track, text.to_owned())), "{text}");
        }
    }

    #[test]
    fn controls() {
        let cases = [
            ("rtsp://h/live/a", "rtsp://h/live/a/streamid=0", "streamid=0", true),
            ("rtsp://h/live/a", "rtsp://h/live/a/streamid=1", "streamid=0", false),
            ("rtsp://h/live/a", "rtsp://h/live/a/streamid=10", "streamid=1", false),
            ("rtsp://h/live/a/", "rtsp://h/live/a//track/1", "/track/1", true),
            ("rtsp://h/live/a?t=x", "rtsp://h/live/a?t=x/streamid=0", "streamid=0", true),
            ("rtsp://h/live/a?t=x", "rtsp://h/live/a/streamid=0?t=x", "streamid=0", true),
            ("rtsp://h/live/a?t=x", "rtsp://h/live/a/streamid=0", "streamid=0", true),
            ("rtsp://h/live/a", "rtsp://127.0.0.1/live/a/streamid=0", "streamid=0", true),
            ("rtsp://h/live/a", "rtsp://h/live/a/video", "rtsp://camera/live/a/video", true),
            ("rtsp://h/live/a", "rtsp://h/live/a/video", "rtsp://camera/live/a/audio", false),
            ("rtsp://h/live/a", "rtsp://h/live/a", "*", true),
            ("rtsp://h/live/a", "rtsp://h/live/a/x", "*", false),
            ("rtsp://h/live/a", "rtsp://h/live/ab", "b", false),
            ("rtsp://h/live/a", "rtsp://h/live/b/streamid=0", "streamid=0", false),
        ];
        for (base, url, control, expected) in cases {
            let (base, parsed) = (Url::parse(base).unwrap(), Url::parse(url).unwrap());
            assert_eq!(parsed.is_control(&base, control), expected, "{url} as {control}");
        }
    }

    #[test]
    fn hosts() {
        for (url, host) in
            [("rtsp://h:1/a/b", "h"), ("rtsp://[::1]:1/a/b", "::1"), ("rtsp://10.0.0.1/a/b", "10.0.0.1"), ("/a", "")]
        {
            assert_eq!(Url::parse(url).unwrap().host(), host);
        }
    }
}
