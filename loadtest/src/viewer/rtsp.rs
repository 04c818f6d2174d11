//! What a viewer says and hears over RTSP: the requests, RTP on the connection or as datagrams, and what a player sends back.
//!
//! As players do, it sends a small packet from each port before PLAY, which opens the way through address translators; then receiver
//! reports of both tracks, and a request before half of the session's time is over.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use crate::args::{LoadArgs, Play};
use crate::rtsp::client::{Carriage, Path, RtspClient};
use crate::rtsp::datagrams::{Pair, Receiver};
use crate::rtsp::message::{Item, Reader, write_frame_header};
use crate::rtsp::rtcp::{self, Reporter};
use crate::scan::Found;
use crate::scan::rtp::RtpScanner;

const NANOS: u64 = 1_000_000_000;
/// An RTP header without payload, of a type that nothing has.
const EMPTY_RTP: [u8; 12] = [0x80, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub struct RtspViewer {
    client: RtspClient,
    reader: Reader,
    /// One per track; none on the connection.
    pairs: Vec<Pair>,
    /// From the last request before media on.
    tracks: Vec<Track>,
    /// Our own, in reports.
    ssrc: u32,
    next_sign: u64,
}

/// One track on its way in.
struct Track {
    scanner: RtpScanner,
    reporter: Reporter,
    path: Path,
}

impl RtspViewer {
    pub fn new(args: &LoadArgs, publisher: u16, socket: &TcpStream, hello: &mut Vec<u8>) -> io::Result<RtspViewer> {
        let (own, server) = (socket.local_addr()?, socket.peer_addr()?);
        let pairs = match args.play {
            Play::RtspUdp => vec![Pair::open(own.ip(), args.gro)?, Pair::open(own.ip(), args.gro)?],
            Play::HttpFlv | Play::Rtmp | Play::WsFlv | Play::RtspTcp => Vec::new(),
        };
        let carriage = match &pairs[..] {
            [one, other] => Carriage::Datagrams([one.ports()?, other.ports()?]),
            _ => Carriage::Interleaved,
        };
        let client = RtspClient::play(args.rtsp_url(publisher.into()), server.ip(), carriage, hello);
        Ok(RtspViewer { client, reader: Reader::default(), pairs, tracks: Vec::new(), ssrc: own.port().into(), next_sign: 0 })
    }

    pub fn sockets(&self) -> Vec<RawFd> {
        self.pairs.iter().flat_map(|pair| [pair.rtp.as_raw_fd(), pair.rtcp.as_raw_fd()]).collect()
    }

    pub fn has_asked(&self) -> bool {
        self.client.has_asked()
    }

    /// Datagrams that its sockets had no room for.
    pub fn dropped(&self) -> u64 {
        self.pairs.iter().map(Pair::dropped).sum()
    }

    /// Takes what the server says on the connection.
    pub fn feed(&mut self, now: u64, bytes: &[u8], found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> io::Result<()> {
        let RtspViewer { reader, client, tracks, pairs, .. } = self;
        reader.feed(bytes, &mut |item| match item {
            Item::Response(response) => {
                client.handle(&response, reply)?;
                if client.has_asked() && tracks.is_empty() {
                    tracks.extend(client.tracks().map(|(media, path)| Track {
                        scanner: RtpScanner::new(media.kind, media.payload_type),
                        reporter: Reporter::default(),
                        path: *path,
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
        let pair = &self.pairs[socket / 2];
        let is_rtp = socket.is_multiple_of(2);
        let fd = if is_rtp { pair.rtp.as_raw_fd() } else { pair.rtcp.as_raw_fd() };
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
        if !self.client.is_running() {
            return Ok(());
        }
        for (at, Track { scanner, reporter, path }) in self.tracks.iter_mut().enumerate() {
            let (Some(source), Some(totals)) = (scanner.ssrc(), scanner.order().totals()) else { continue };
            let mut report = Vec::new();
            reporter.write(now, self.ssrc, source, totals, &mut report);
            match *path {
                Path::Channels { rtcp, .. } => {
                    write_frame_header(rtcp, report.len(), out);
                    out.extend_from_slice(&report);
                }
                Path::Addresses { rtcp, .. } => send(&self.pairs[at].rtcp, &report, rtcp)?,
            }
        }
        if now >= self.next_sign {
            if self.next_sign > 0 {
                self.client.keep_alive(out);
            }
            self.next_sign = now + self.client.timeout_seconds() * NANOS / 2;
        }
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

/// A datagram that is lost is lost.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.send_to(bytes, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => Err(error),
        _ => Ok(()),
    }
}
