//! What options are given in: bit rates and addresses.

use std::str::FromStr;

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        let rate = digits.parse::<f64>().map_err(|_| "a number, with k or M for thousands or millions")? * factor;
        if (1e3..=1e9).contains(&rate) { Ok(Rate(rate as u64)) } else { Err("1k to 1000M") }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RtmpUrl {
    pub address: String,
    pub app: String,
    pub name: String,
}

impl RtmpUrl {
    /// Of the stream with this number.
    pub fn stream_name(&self, number: usize, publishers: u16) -> String {
        if publishers == 1 { self.name.clone() } else { format!("{}-{number}", self.name) }
    }
}

impl FromStr for RtmpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "rtmp://HOST[:PORT]/APP/NAME";
        let (host, path) = text.strip_prefix("rtmp://").and_then(|rest| rest.split_once('/')).ok_or(FORM)?;
        let (app, name) = path.rsplit_once('/').filter(|(app, name)| !app.is_empty() && !name.is_empty()).ok_or(FORM)?;
        Ok(RtmpUrl { address: with_port(host, 1935), app: app.to_owned(), name: name.to_owned() })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpUrl {
    pub address: String,
}

impl FromStr for HttpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).ok_or("http://HOST[:PORT]")?;
        Ok(HttpUrl { address: with_port(host, 80) })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RtspUrl {
    pub address: String,
}

impl FromStr for RtspUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("rtsp://").map(|rest| rest.trim_end_matches('/')).ok_or("rtsp://HOST[:PORT]")?;
        Ok(RtspUrl { address: with_port(host, 554) })
    }
}

fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_urls() {
        assert_eq!("2M".parse(), Ok(Rate(2_000_000)));
        assert_eq!("1.5m".parse(), Ok(Rate(1_500_000)));
        assert_eq!("800k".parse(), Ok(Rate(800_000)));
        assert!("0".parse::<Rate>().is_err() && "fast".parse::<Rate>().is_err());
        let url: RtmpUrl = "rtmp://localhost/live/room/a".parse().unwrap();
        assert_eq!((url.address.as_str(), url.app.as_str(), url.name.as_str()), ("localhost:1935", "live/room", "a"));
        assert_eq!(url.stream_name(1, 2), "a-1");
        assert!("rtmp://localhost/live".parse::<RtmpUrl>().is_err());
        assert_eq!("http://127.0.0.1:8080/".parse(), Ok(HttpUrl { address: "127.0.0.1:8080".to_owned() }));
        assert_eq!("rtsp://localhost".parse(), Ok(RtspUrl { address: "localhost:554".to_owned() }));
    }
}
