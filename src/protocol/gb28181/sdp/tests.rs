//! Descriptions of the standard, of devices, and of our own.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const US: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

fn offer(kind: Kind, transport: MediaTransport) -> Offer<'static> {
    Offer {
        owner: "34020000002000000001",
        channel: "34020000001310000001",
        kind,
        transport,
        address: US,
        port: 30_000,
        ssrc: 200_000_001,
        span: (1_767_312_000, 1_767_315_600),
        download_speed: None,
        stream_number: None,
    }
}

/// The lines of `text` that begin with one of `names`.
fn lines<'a>(text: &'a str, names: &[&str]) -> Vec<&'a str> {
    text.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).collect()
}

#[test]
fn a_live_call_is_offered_as_the_standard_has_it() {
    let text = offer(Kind::Play, MediaTransport::TcpPassive).describe().to_string();
    let expected = "v=0\r\no=34020000002000000001 0 0 IN IP4 198.51.100.1\r\ns=Play\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
        m=video 30000 TCP/RTP/AVP 96 98 99 100\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\na=rtpmap:98 H264/90000\r\n\
        a=rtpmap:99 H265/90000\r\na=rtpmap:100 H265/90000\r\na=setup:passive\r\na=connection:new\r\ny=0200000001\r\n";
    assert_eq!(text, expected);
}

#[test]
fn offers_differ_by_kind_and_transport() {
    let cases: [(Kind, MediaTransport, &[&str]); 5] = [
        (Kind::Play, MediaTransport::Udp, &["s=Play", "t=0 0", "m=video 30000 RTP/AVP 96 98 99 100", "a=recvonly"]),
        (
            Kind::Play,
            MediaTransport::TcpActive,
            &["s=Play", "t=0 0", "m=video 9 TCP/RTP/AVP 96 98 99 100", "a=recvonly", "a=setup:active"],
        ),
        (
            Kind::Playback,
            MediaTransport::Udp,
            &[
                "s=Playback",
                "u=34020000001310000001:0",
                "t=1767312000 1767315600",
                "m=video 30000 RTP/AVP 96 98 99 100",
                "a=recvonly",
            ],
        ),
        (
            Kind::Download,
            MediaTransport::TcpPassive,
            &[
                "s=Download",
                "u=34020000001310000001:0",
                "t=1767312000 1767315600",
                "m=video 30000 TCP/RTP/AVP 96 98 99 100",
                "a=recvonly",
                "a=setup:passive",
            ],
        ),
        (Kind::Talk, MediaTransport::Udp, &["s=Talk", "t=0 0", "m=audio 30000 RTP/AVP 8", "a=sendrecv", "f=v/////a/1/8/1"]),
    ];
    for (kind, transport, expected) in cases {
        let description = offer(kind, transport).describe();
        let text = description.to_string();
        let kept = ["s=", "u=", "t=", "m=", "f=", "a=setup", "a=recvonly", "a=sendrecv"];
        assert_eq!(lines(&text, &kept), expected, "{kind:?} {transport:?}");
        assert_eq!(parse(text.as_bytes()), Ok(description), "{text}");
    }
}

#[test]
fn speeds_streams_and_addresses_of_the_sixth_version_are_said() {
    let mut offer = offer(Kind::Download, MediaTransport::TcpActive);
    offer.address = "2001:db8::1".parse().unwrap();
    offer.download_speed = Some(4);
    offer.stream_number = Some(1);
    let description = offer.describe();
    let text = description.to_string();
    let expected = ["c=IN IP6 2001:db8::1", "a=downloadspeed:4", "a=streamnumber:1"];
    assert_eq!(lines(&text, &["c=", "a=downloadspeed", "a=streamnumber"]), expected);
    assert_eq!(parse(text.as_bytes()), Ok(description));
}

#[test]
fn the_answer_of_a_device_is_read() {
    let text = "v=0\r\no=34020000001310000001 0 0 IN IP4 192.0.2.10\r\ns=Play\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
        m=video 15060 TCP/RTP/AVP 96\r\na=sendonly\r\na=rtpmap:96 PS/90000\r\na=setup:active\r\na=connection:new\r\ny=0200000001\r\n";
    let read = parse(text.as_bytes()).unwrap();
    assert_eq!((read.owner.as_str(), read.kind, read.ssrc), ("34020000001310000001", Some(Kind::Play), Some(200_000_001)));
    let media = &read.media[0];
    assert_eq!((media.address, media.port, media.tcp), (Some("192.0.2.10".parse().unwrap()), 15_060, true));
    assert_eq!((media.direction, media.setup), (Some(Direction::SendOnly), Some(Setup::Active)));
    assert_eq!(media.payloads, [Payload::new(96, "PS", 90_000)]);
}

#[test]
fn descriptions_are_read_as_devices_write_them() {
    let read = |text: &str| parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let bare = read("o=- 0 0 IN IP4 192.0.2.1\nm=video 6000 rtp/avp 96 \n");
    assert_eq!(bare.media[0].address, Some("192.0.2.1".parse().unwrap()), "only o= has an address");
    let of_section = read("c=IN IP4 192.0.2.1\nm=video 1 RTP/AVP 96\nc=IN IP4 192.0.2.2\nm=audio 3 RTP/AVP 8\n");
    let addresses: Vec<_> = of_section.media.iter().map(|media| media.address.unwrap().to_string()).collect();
    assert_eq!(addresses, ["192.0.2.2", "192.0.2.1"], "an address of one section");
    let blanks =
        read(" v=0 \r\ns= PLAYBACK \t\r\nu=340:0  \r\nm=video 6000 TCP/RTP/AVP 96  \r\na= setup : Passive\r\ny= 200000001 \0");
    assert_eq!((blanks.kind, blanks.uri.as_str(), blanks.ssrc), (Some(Kind::Playback), "340:0", Some(200_000_001)));
    assert_eq!(blanks.media[0].setup, Some(Setup::Passive));
    let of_session = read("a=recvonly\na=setup:active\nm=audio 6000/2 TCP/RTP/AVP 8 300 -1 x 8\n");
    assert_eq!((of_session.media[0].direction, of_session.media[0].setup), (Some(Direction::ReceiveOnly), Some(Setup::Active)));
    assert_eq!((of_session.media[0].port, &of_session.media[0].payloads[..]), (6_000, &[Payload::known(8)][..]));
    let vendor =
        read("s=x\nm=image 1 UDP 9\na=streamMode:sub\na=filesize:12345\na=rtpmap:9\na=rtpmap:7 X/1\ny=99999999999\ny=0x12\n");
    assert_eq!((vendor.kind, vendor.ssrc), (None, None));
    assert_eq!((vendor.media[0].sort, vendor.media[0].stream_number), (Sort::Other, Some(1)));
    assert_eq!(vendor.media[0].file_size, Some(12_345));
    for (line, number) in [("streamnumber:0", 0), ("streamprofile:1", 1), ("stream:0", 0), ("streamMode:MAIN", 0)] {
        assert_eq!(read(&format!("m=video 1 RTP/AVP 96\na={line}")).media[0].stream_number, Some(number), "{line}");
    }
}

#[test]
fn formats_are_read_and_written() {
    let cases = [
        ("v/2/6/25/1/4096a/1/8/1", "v/2/6/25/1/4096a/1/8/1"),
        ("v/////a/1/8/1", "v/////a/1/8/1"),
        ("v/5/1920x1080/25/2/a///", "v/5/1920x1080/25/2/a///"),
        ("v/2/4///", "v/2/4///a///"),
        ("v/x/ 6 /-1/1/4096", "v//6//1/4096a///"),
    ];
    for (text, expected) in cases {
        let format = Format::parse(text).unwrap();
        assert_eq!(format.to_string(), expected, "{text}");
    }
    assert_eq!(Format::parse("audio"), None);
    assert_eq!(Format::parse("v/////a/1/8/1"), Some(Format::g711a()));
}

#[test]
fn answers_turn_the_offer_round() {
    let answer = |description: &Description| {
        let answer = Answer {
            owner: "34020000001310000001",
            address: "192.0.2.10".parse().unwrap(),
            port: 15_060,
            payload_type: 96,
            ssrc: None,
            file_size: Some(7),
        };
        description.answer(&answer).to_string()
    };
    let kept = ["o=", "s=", "c=", "m=", "a=", "y="];
    let text = answer(&offer(Kind::Play, MediaTransport::TcpPassive).describe());
    let expected = [
        "o=34020000001310000001 0 0 IN IP4 192.0.2.10",
        "s=Play",
        "c=IN IP4 192.0.2.10",
        "m=video 15060 TCP/RTP/AVP 96",
        "a=sendonly",
        "a=rtpmap:96 PS/90000",
        "a=setup:active",
        "a=connection:new",
        "a=filesize:7",
        "y=0200000001",
    ];
    assert_eq!(lines(&text, &kept), expected);
    let text = answer(&offer(Kind::Play, MediaTransport::TcpActive).describe());
    assert_eq!(lines(&text, &["a=setup"]), ["a=setup:passive"]);
    let text = answer(&offer(Kind::Talk, MediaTransport::Udp).describe());
    assert_eq!(lines(&text, &["m=", "a=send", "a=setup"]), ["m=audio 15060 RTP/AVP 96", "a=sendrecv"]);
}

#[test]
fn what_is_too_long_or_empty_is_refused() {
    assert_eq!(parse(b""), Err(SdpError::NoMedia));
    assert_eq!(parse(b"v=0\r\ns=Play\r\n"), Err(SdpError::NoMedia));
    assert_eq!(parse(&vec![b'm'; TEXT_BYTES_MAX + 1]), Err(SdpError::TooLong));
    assert_eq!(parse("m=video 1 RTP/AVP 96\n".repeat(MEDIA_MAX + 1).as_bytes()), Err(SdpError::TooManyMedia));
    let many = format!("m=video 1 RTP/AVP {}", (0..128).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
    assert_eq!(parse(many.as_bytes()).unwrap().media[0].payloads.len(), PAYLOADS_MAX);
}

#[test]
fn nothing_that_is_told_breaks_a_line() {
    let mut offer = offer(Kind::Playback, MediaTransport::Udp);
    (offer.owner, offer.channel) = ("a\r\nm=video 1 RTP/AVP 0", "b\nc");
    let text = offer.describe().to_string();
    assert_eq!(lines(&text, &["m="]).len(), 1);
    assert_eq!(lines(&text, &["u="]), ["u=bc:0"]);
}
