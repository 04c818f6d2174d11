//! How what is played back goes on (GB/T 28181-2016 Annex B): bodies of SIP INFO ⇄ values. MANSRTSP: three requests of RTSP (RFC 2326) and
//! their answers, without URLs.
//!
//! Read leniently: either line end, names in any case, `MANSRTSP/1.0`, and `ntp` where the standard misspells `npt`. Limit: [`BODY_BYTES_MAX`].
//! Not here: what answers to what (`platform/calls`).

/// A longer body is not read.
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// The speeds of the standard, of 2022 backwards too.
pub const SCALE_MAX: f64 = 64.0;

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Goes on, from elsewhere or otherwise. `scale`: a multiple of the natural speed, backwards if negative; not 0.
    Play {
        from: Option<From>,
        scale: Option<f64>,
    },
    Pause,
    Teardown,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    /// Where it was halted.
    Now,
    /// Seconds behind the begin of what was asked for.
    Seconds(f64),
}

/// The body of a 200 to INFO.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub cseq: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MansrtspError {
    #[error("a MANSRTSP body may have {BODY_BYTES_MAX} bytes at most")]
    TooLong,
    #[error("MANSRTSP knows PLAY, PAUSE and TEARDOWN")]
    Method,
    #[error("the scale of a PLAY is no number from -{SCALE_MAX} to {SCALE_MAX}, or is 0")]
    Scale,
    #[error("the range of a PLAY begins with npt=")]
    Range,
    #[error("no MANSRTSP answer")]
    Answer,
}

impl Request {
    /// The text of a body.
    pub fn write(&self, cseq: u32) -> String {
        let method = match self {
            Request::Play { .. } => "PLAY",
            Request::Pause => "PAUSE",
            Request::Teardown => "TEARDOWN",
        };
        let mut text = format!("{method} RTSP/1.0\r\nCSeq: {cseq}\r\n");
        match self {
            Request::Play { from, scale } => write_play(&mut text, *from, *scale),
            Request::Pause => text.push_str("PauseTime: now\r\n"),
            Request::Teardown => {}
        }
        text
    }

    /// The request of a body, and its number (0 where there is none).
    pub fn parse(body: &[u8]) -> Result<(Request, u32), MansrtspError> {
        let lines = Lines::of(body)?;
        let method = lines.first.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let request = match method.as_str() {
            "PLAY" => Request::Play { from: lines.from()?, scale: lines.scale()? },
            "PAUSE" => Request::Pause,
            "TEARDOWN" => Request::Teardown,
            _ => return Err(MansrtspError::Method),
        };
        Ok((request, lines.cseq()))
    }
}

fn write_play(text: &mut String, from: Option<From>, scale: Option<f64>) {
    match from {
        Some(From::Now) => text.push_str("Range: npt=now-\r\n"),
        Some(From::Seconds(seconds)) => text.push_str(&format!("Range: npt={seconds}-\r\n")),
        None => {}
    }
    if let Some(scale) = scale {
        // One digit behind the point at least: devices look for it.
        text.push_str(&format!("Scale: {scale:?}\r\n"));
    }
}

impl Answer {
    pub fn write(&self) -> String {
        let reason = if self.status == 200 { "OK" } else { "Failed" };
        format!("RTSP/1.0 {} {reason}\r\nCSeq: {}\r\n", self.status, self.cseq)
    }

    pub fn parse(body: &[u8]) -> Result<Answer, MansrtspError> {
        let lines = Lines::of(body)?;
        let mut words = lines.first.split_whitespace();
        let is_rtsp = words.next().is_some_and(|version| version.to_ascii_uppercase().contains("RTSP/"));
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.filter(|status| is_rtsp && (100..700).contains(status)).ok_or(MansrtspError::Answer)?;
        Ok(Answer { status, cseq: lines.cseq() })
    }
}

/// The first line, and the headers.
struct Lines {
    first: String,
    rest: Vec<(String, String)>,
}

impl Lines {
    fn of(body: &[u8]) -> Result<Lines, MansrtspError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(MansrtspError::TooLong);
        }
        let text = String::from_utf8_lossy(body);
        let mut lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let rest = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Lines { first, rest })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.rest.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn cseq(&self) -> u32 {
        self.get("cseq").and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn scale(&self) -> Result<Option<f64>, MansrtspError> {
        let Some(text) = self.get("scale") else { return Ok(None) };
        let scale: f64 = text.parse().map_err(|_| MansrtspError::Scale)?;
        (scale != 0.0 && scale.abs() <= SCALE_MAX).then_some(Some(scale)).ok_or(MansrtspError::Scale)
    }

    fn from(&self) -> Result<Option<From>, MansrtspError> {
        let Some(text) = self.get("range") else { return Ok(None) };
        let text = text.to_ascii_lowercase();
        let (unit, range) = text.split_once('=').ok_or(MansrtspError::Range)?;
        if !matches!(unit.trim(), "npt" | "ntp") {
            return Err(MansrtspError::Range);
        }
        match range.split('-').next().unwrap_or_default().trim() {
            "now" => Ok(Some(From::Now)),
            seconds => {
                let seconds = seconds.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
                Ok(Some(From::Seconds(seconds.ok_or(MansrtspError::Range)?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_the_standard_has_them() {
        let play = |from, scale| Request::Play { from, scale };
        let cases = [
            (play(Some(From::Now), None), "PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=now-\r\n"),
            (play(None, Some(2.0)), "PLAY RTSP/1.0\r\nCSeq: 4\r\nScale: 2.0\r\n"),
            (play(None, Some(0.25)), "PLAY RTSP/1.0\r\nCSeq: 4\r\nScale: 0.25\r\n"),
            (play(Some(From::Seconds(100.0)), None), "PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=100-\r\n"),
            (play(Some(From::Seconds(1.5)), Some(-1.0)), "PLAY RTSP/1.0\r\nCSeq: 4\r\nRange: npt=1.5-\r\nScale: -1.0\r\n"),
            (Request::Pause, "PAUSE RTSP/1.0\r\nCSeq: 4\r\nPauseTime: now\r\n"),
            (Request::Teardown, "TEARDOWN RTSP/1.0\r\nCSeq: 4\r\n"),
        ];
        for (request, text) in cases {
            assert_eq!(request.write(4), text);
            assert_eq!(Request::parse(text.as_bytes()), Ok((request, 4)), "{text}");
        }
    }

    #[test]
    fn requests_are_read_as_they_come() {
        let play = |from, scale| Ok((Request::Play { from, scale }, 0));
        let cases = [
            ("PLAY MANSRTSP/1.0\nCSeq:2\nScale: 4\n", Ok((Request::Play { from: None, scale: Some(4.0) }, 2))),
            ("\r\nplay rtsp/1.0\r\nRANGE : ntp=now-\r\n", play(Some(From::Now), None)),
            ("PLAY RTSP/1.0\r\nRange: npt = 12.5-20\r\n", play(Some(From::Seconds(12.5)), None)),
            ("PLAY RTSP/1.0", play(None, None)),
            ("PAUSE RTSP/1.0\r\nCSeq: x\r\n", Ok((Request::Pause, 0))),
            ("", Err(MansrtspError::Method)),
            ("OPTIONS RTSP/1.0\r\n", Err(MansrtspError::Method)),
            ("PLAY RTSP/1.0\r\nScale: fast\r\n", Err(MansrtspError::Scale)),
            ("PLAY RTSP/1.0\r\nScale: 0\r\n", Err(MansrtspError::Scale)),
            ("PLAY RTSP/1.0\r\nScale: inf\r\n", Err(MansrtspError::Scale)),
            ("PLAY RTSP/1.0\r\nRange: clock=1-\r\n", Err(MansrtspError::Range)),
            ("PLAY RTSP/1.0\r\nRange: npt=-5\r\n", Err(MansrtspError::Range)),
            ("PLAY RTSP/1.0\r\nRange: npt=nan-\r\n", Err(MansrtspError::Range)),
        ];
        for (text, expected) in cases {
            assert_eq!(Request::parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(Request::parse(&[b' '; BODY_BYTES_MAX + 1]), Err(MansrtspError::TooLong));
    }

    #[test]
    fn answers_are_written_and_read() {
        let cases = [
            ("RTSP/1.0 200 OK\r\nCSeq: 4\r\n", Ok(Answer { status: 200, cseq: 4 })),
            ("RTSP/1.0 454 Failed\r\nCSeq: 1\r\n", Ok(Answer { status: 454, cseq: 1 })),
            ("MANSRTSP/1.0 200 OK\nCSeq: 9\nRTP-Info: seq=1;rtptime=2\n", Ok(Answer { status: 200, cseq: 9 })),
            ("RTSP/1.0 OK\r\n", Err(MansrtspError::Answer)),
            ("SIP/2.0 200 OK\r\n", Err(MansrtspError::Answer)),
            ("", Err(MansrtspError::Answer)),
        ];
        for (text, expected) in cases {
            assert_eq!(Answer::parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(Answer { status: 200, cseq: 4 }.write(), "RTSP/1.0 200 OK\r\nCSeq: 4\r\n");
    }
}
