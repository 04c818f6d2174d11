//! Any `Transport` header and any URL: no panic; answers can be read as the offer they were made for; a URL that is written can be read
//! again, and names its own controls.
//!
//! Input: the header, a line feed, the URL, a line feed, a control.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::Channels;
use shardcast::protocol::rtsp::transport::{self, Lower, OFFERS_MAX, Offer, PortPair};
use shardcast::protocol::rtsp::url::Url;

fn check_offer(offer: &Offer) {
    let only = |text: &str| {
        let mut offers = transport::parse(text);
        let offer = offers.next().expect("what is written can be read");
        assert_eq!(offers.next(), None);
        offer
    };
    let server = PortPair { rtp: 20_000, rtcp: 20_001 };
    match offer.lower {
        Lower::Interleaved(channels) => {
            let channels = channels.unwrap_or(Channels { rtp: 0, rtcp: 1 });
            let read = only(&offer.write_interleaved(channels));
            assert_eq!((read.lower, read.record), (Lower::Interleaved(Some(channels)), offer.record));
        }
        Lower::Unicast(client) => assert_eq!(only(&offer.write_unicast(client, server)), *offer),
        Lower::Multicast => {
            let read = only(&offer.write_multicast(IpAddr::V4(Ipv4Addr::new(239, 0, 0, 1)), server, 1));
            assert_eq!(read.lower, Lower::Multicast);
        }
    }
}

fn check_url(text: &str, control: &str) {
    let Ok(url) = Url::parse(text) else { return };
    assert_eq!(Url::parse(&url.text()).as_ref(), Ok(&url));
    assert_eq!(url.behind(&url).as_deref(), Some(""));
    assert!(url.is_control(&url, "*"));
    let (_, _) = (url.query(), url.host());
    let is_stream = url.key().is_ok_and(|key| !key.as_str().chars().any(char::is_control));
    assert_eq!(is_stream, url.key().is_ok());
    let mut without_track = url.clone();
    if without_track.cut_track().is_some() {
        assert!(without_track.text().len() < url.text().len());
    }
    let trimmed = control.trim_matches('/');
    let is_plain = is_stream && !trimmed.is_empty() && trimmed != "*" && !trimmed.contains('?') && Url::parse(control).is_err();
    if is_plain {
        let track = Url::parse(&format!("{}/{trimmed}", url.text())).expect("an URL and more");
        assert!(track.is_control(&url, control), "{track:?} {url:?} {control}");
    }
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let offers: Vec<Offer> = transport::parse(lines.next().unwrap_or_default()).collect();
    assert!(offers.len() <= OFFERS_MAX);
    offers.iter().for_each(check_offer);
    let url = lines.next().unwrap_or_default();
    check_url(url, lines.next().unwrap_or_default());
});
