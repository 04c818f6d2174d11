//! What a viewer says and hears over RTSP: the requests, RTP on the connection or as datagrams, and what a player sends back.
//!
//! As players do, it sends a small packet from each port before PLAY, which opens the way through address translators; then receiver
//! reports of both tracks, and a request before half of the session's time is over.

use std::io;
use std::net::TcpStream;
use std::os::fd::RawFd;

use crate::args::{LoadArgs, Play};
use crate::load::Route;
use crate::rtsp::client::{Path, RtspClient};
use crate::rtsp::datagrams::{Pair, Receiver};
use crate::rtsp::link::{Link, send};
use crate::rtsp::message::Item;
use crate::rtsp::rtcp::{self, Reporter};
use crate::scan::Found;
use crate::scan::rtp::RtpScanner;

/// An RTP header without payload, of a type that nothing has.
const EMPTY_RTP: [u8; 12] = [0x80, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub struct RtspViewer {
    link: Link,
    /// From the last request before media on.
    tracks: Vec<Track>,
    /// Our own, in reports.
    ssrc: u32,
}

/// One track on its way in.
struct Track {
    scanner: RtpScanner,
    reporter: Reporter,
    path: Path,
}

impl RtspViewer {
    pub fn new(
        args: &LoadArgs,
        publisher: u16,
        socket: &TcpStream,
        route: &Route,
        hello: &mut Vec<u8>,
    ) -> io::Result<RtspViewer> {
        let joined = (args.play == Play::RtspUdp).then_some(args.gro);
        let link = Link::open(socket, joined, route.relay.as_ref(), |server, carriage| {
            RtspClient::play(args.rtsp_url(publisher.into()), server, carriage, hello)
        })?;
        Ok(RtspViewer { link, tracks: Vec::new(), ssrc: socket.local_addr()?.port().into() })
    }

    pub fn sockets(&self) -> Vec<RawFd> {
        self.link.sockets()
    }

    pub fn has_asked(&self) -> bool {
        self.link.client.has_asked()
    }

    /// Datagrams that its sockets had no room for.
    pub fn dropped(&self) -> u64 {
        self.link.pairs.iter().map(Pair::dropped).sum()
    }

    /// Takes what the server says on the connection.
    pub fn feed(&mut self, now: u64, bytes: &[u8], found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> io::Result<()> {
        let RtspViewer { link: Link { reader, client, pairs, doors, .. }, tracks, .. } = self;
        reader.feed(bytes, &mut |item| match item {
            Item::Response(response) => {
                client.handle(&response, reply)?;
                if client.has_asked() && tracks.is_empty() {
                    tracks.extend(client.tracks().enumerate().map(|(at, (media, path))| Track {
                        scanner: RtpScanner::new(media.kind, media.payload_type),
                        reporter: Reporter::default(),
                        path: doors.get(at).copied().unwrap_or(*path),
                    }));
                    open_ways(pairs, tracks)?;
                }
                Ok(())
            }
            Item::Frame { channel, payload } => {
                for Track { scanner, reporter, path } in tracks.iter_mut() {
                    match *path {
                        Path::Channels { rtp, .. } if rtp == channel => scanner.feed(payload, found),
                        Path::Channels { rtcp, .. } if rtcp == channel => reporter.take(now, payload),
                        Path::Channels { .. } | Path::Addresses { .. } => {}
                    }
                }
                Ok(())
            }
        })
    }

    /// Takes what has come on a socket for datagrams, an index into [`RtspViewer::sockets`]; says how many bytes that is.
    pub fn datagrams(
        &mut self,
        now: u64,
        socket: usize,
        receiver: &mut Receiver,
        found: &mut impl FnMut(Found<'_>),
    ) -> io::Result<u64> {
        let is_rtp = socket.is_multiple_of(2);
        let fd = self.link.socket(socket);
        let mut track = self.tracks.get_mut(socket / 2);
        let mut count = 0;
        receiver.receive(fd, |bytes| {
            count += bytes.len() as u64;
            match &mut track {
                Some(track) if is_rtp => track.scanner.feed(bytes, found),
                Some(track) => track.reporter.take(now, bytes),
                None => {}
            }
        })?;
        Ok(count)
    }

    /// Sends reports of what has come; what goes on the connection is put into `out`.
    pub fn report(&mut self, now: u64, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.link.client.is_running() {
            return Ok(());
        }
        for (at, Track { scanner, reporter, path }) in self.tracks.iter_mut().enumerate() {
            let (Some(source), Some(totals)) = (scanner.ssrc(), scanner.order().totals()) else { continue };
            let mut report = Vec::new();
            reporter.write(now, self.ssrc, source, totals, &mut report);
            self.link.report(at, *path, &report, out)?;
        }
        self.link.keep_alive(now, out);
        Ok(())
    }
}

fn open_ways(pairs: &[Pair], tracks: &[Track]) -> io::Result<()> {
    for (pair, track) in pairs.iter().zip(tracks) {
        if let Path::Addresses { rtp, rtcp } = track.path {
            send(&pair.rtp, &EMPTY_RTP, rtp)?;
            send(&pair.rtcp, &rtcp::EMPTY_RECEIVER_REPORT, rtcp)?;
        }
    }
    Ok(())
}
