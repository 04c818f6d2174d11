//! UDP sockets of a shard: pairs of ports, trains of datagrams out, batches of them in.
//!
//! Out: a train of equal-sized datagrams is one `sendmsg` with `UDP_SEGMENT` (Linux 4.18), else or by choice one `sendmmsg`. In: `recvmmsg`, and
//! with `UDP_GRO` (Linux 5.0) the kernel joins what came together. `SO_RXQ_OVFL` says what the kernel had no room for. All calls are on the
//! raw descriptor and never wait; waiting for readability is the runtime's ([`Udp::readable`]).
//!
//! Limits: [`BATCH`] buffers of [`BUFFER_BYTES`] per [`Receiver`], one per shard.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Once;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Backend, epoll, uring};
use crate::config::UdpSegmentation;

/// Buffers per call of `recvmmsg`.
const BATCH: usize = 16;
/// The kernel joins datagrams up to this.
const BUFFER_BYTES: usize = 64 * 1024;
/// Control data of one message: a segment size and a drop counter, each behind its header.
const CONTROL_BYTES: usize = 64;
/// Datagrams of one train.
const TRAIN_MAX: usize = 64;

/// Two neighbouring ports: RTP and RTCP.
pub struct Pair {
    pub rtp: OwnedFd,
    pub rtcp: OwnedFd,
    /// What the kernel granted of the receive buffer asked for.
    pub receive_buffer_bytes_granted: u32,
}

/// Binds `rtp_port` and the next one; fails with `AddrInUse` if one of them is taken.
pub fn bind_pair(ip: IpAddr, rtp_port: u16, receive_buffer_bytes: u32) -> io::Result<Pair> {
    let rtp = bind(SocketAddr::new(ip, rtp_port), receive_buffer_bytes)?;
    let rtcp = bind(SocketAddr::new(ip, rtp_port + 1), receive_buffer_bytes)?;
    // Without it datagrams come one by one.
    drop(set_option(rtp.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 1));
    // The kernel says twice of what it grants.
    let receive_buffer_bytes_granted = u32::try_from(rtp.recv_buffer_size()? / 2).unwrap_or(u32::MAX);
    Ok(Pair { rtp: rtp.into(), rtcp: rtcp.into(), receive_buffer_bytes_granted })
}

fn bind(address: SocketAddr, receive_buffer_bytes: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(receive_buffer_bytes as usize)?;
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn set_option(socket: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value lives through the call and has the size that is given.
    let result =
        unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says once per process that the kernel gives smaller buffers than were asked for.
pub fn warn_if_capped(asked: u32, granted: u32) {
    static SAID: Once = Once::new();
    if granted < asked {
        SAID.call_once(|| {
            log::warn!(
                "the kernel grants {granted} bytes of UDP receive buffer instead of {asked}: bursts may be lost; \
                 raise net.core.rmem_max"
            );
        });
    }
}

/// A socket that sends to multicast groups, from `interface` or from where the system sends them.
pub fn multicast_socket(interface: Option<IpAddr>, ttl: u8) -> io::Result<OwnedFd> {
    let domain = if matches!(interface, Some(IpAddr::V6(_))) { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_ttl_v4(ttl.into())?;
    socket.set_multicast_loop_v4(true)?;
    if let Some(IpAddr::V4(interface)) = interface {
        socket.set_multicast_if_v4(&interface)?;
    }
    Ok(socket.into())
}

/// A bound socket on this shard, to wait for. It is closed when this is dropped.
pub enum Udp {
    IoUring(uring::Datagrams),
    Epoll(epoll::Datagrams),
}

impl Udp {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        match super::BACKEND.get() {
            Backend::IoUring => Ok(Udp::IoUring(uring::datagrams(socket))),
            Backend::Epoll => epoll::datagrams(socket).map(Udp::Epoll),
        }
    }

    /// Until there is something to receive. Takes nothing; an error of the socket is left for the next call to report.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Udp::IoUring(socket) => uring::readable(socket).await,
            Udp::Epoll(socket) => epoll::readable(socket).await,
        }
    }

    /// Gives `each` what has come, at most one batch; `WouldBlock` when that is nothing.
    pub fn receive(&self, receiver: &mut Receiver, each: impl FnMut(SocketAddr, &[u8])) -> io::Result<Batch> {
        let socket = match self {
            Udp::IoUring(socket) => return receiver.receive(socket.as_raw_fd(), each),
            Udp::Epoll(socket) => socket,
        };
        let mut result = Err(io::ErrorKind::WouldBlock.into());
        epoll::receive(socket, || {
            result = receiver.receive(socket.as_raw_fd(), each);
            result.as_ref().is_ok_and(|batch| batch.full) || result.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock)
        });
        result
    }
}

impl AsRawFd for Udp {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Udp::IoUring(socket) => socket.as_raw_fd(),
            Udp::Epoll(socket) => socket.as_raw_fd(),
        }
    }
}

/// What one call received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub datagrams: usize,
    /// Datagrams for which the socket's buffer had no room, since it was opened, as of the newest message; wraps. `None`: not said.
    pub kernel_drops_total: Option<u32>,
    /// All buffers were used, so there may be more. Otherwise there was nothing more.
    pub full: bool,
}

/// The buffers of a shard for what it receives.
pub struct Receiver {
    buffers: Vec<u8>,
    control: Vec<[u64; CONTROL_BYTES / 8]>,
    names: Vec<libc::sockaddr_storage>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    pub fn new() -> Self {
        // Pages that no message reaches are never touched.
        let buffers = vec![0; BATCH * BUFFER_BYTES];
        // SAFETY: an all-zero `sockaddr_storage` is an unspecified address.
        let names = vec![unsafe { zeroed() }; BATCH];
        Receiver { buffers, control: vec![[0; CONTROL_BYTES / 8]; BATCH], names }
    }

    /// Gives `each` what has come, at most one batch; `WouldBlock` when that is nothing.
    pub fn receive(&mut self, socket: RawFd, mut each: impl FnMut(SocketAddr, &[u8])) -> io::Result<Batch> {
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
            iov_base: self.buffers[at * BUFFER_BYTES..].as_mut_ptr().cast(),
            iov_len: BUFFER_BYTES,
        });
        // SAFETY: an all-zero `mmsghdr` is valid: no name, no buffers.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (at, message) in messages.iter_mut().enumerate() {
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut iovecs[at];
            header.msg_iovlen = 1;
            header.msg_control = self.control[at].as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: all that the messages point to lives through the call, in the sizes that they give.
        let count =
            unsafe { libc::recvmmsg(socket, messages.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let mut batch = Batch { full: count == BATCH, ..Batch::default() };
        for (at, message) in messages[..count].iter().enumerate() {
            let (segment, drops) = control_data(&message.msg_hdr);
            batch.kernel_drops_total = drops.or(batch.kernel_drops_total);
            let Some(from) = address(&self.names[at]) else { continue };
            let bytes = &self.buffers[at * BUFFER_BYTES..][..(message.msg_len as usize).min(BUFFER_BYTES)];
            let segment = segment.unwrap_or(bytes.len()).max(1);
            for datagram in bytes.chunks(segment) {
                batch.datagrams += 1;
                each(from, datagram);
            }
        }
        Ok(batch)
    }
}

/// The size of the joined datagrams, and the counter of lost ones.
fn control_data(header: &libc::msghdr) -> (Option<usize>, Option<u32>) {
    let (mut segment, mut drops) = (None, None);
    // SAFETY: the kernel has filled the control buffer as far as `msg_controllen` says; the macros stay within that.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = next.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(data.cast::<i32>().read_unaligned()).ok();
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => drops = Some(data.cast::<u32>().read_unaligned()),
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, control);
        }
    }
    (segment, drops)
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds this kind of address.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            Some((Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            Some((Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port)).into())
        }
        _ => None,
    }
}

/// How trains are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendWay {
    /// One `sendmsg` that the kernel cuts.
    Segment,
    /// One `sendmmsg` with a message per datagram.
    Many,
    /// One `sendmsg` per datagram.
    Single,
}

impl SendWay {
    /// The best way that is wished for and that the kernel has, and why in words for the log.
    pub fn choose(wish: UdpSegmentation) -> (SendWay, &'static str) {
        match wish {
            UdpSegmentation::Off => (SendWay::Many, "as configured"),
            UdpSegmentation::Auto if has_segmentation() => (SendWay::Segment, "the kernel offers it"),
            UdpSegmentation::Auto => (SendWay::Many, "the kernel lacks UDP_SEGMENT"),
        }
    }

    /// The kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            SendWay::Segment => "UDP_SEGMENT",
            SendWay::Many => "sendmmsg",
            SendWay::Single => "sendmsg",
        }
    }
}

fn has_segmentation() -> bool {
    Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .is_ok_and(|socket| set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1_400).is_ok())
}

/// Sends trains one way, or the next one once that turns out not to work here at all.
#[derive(Debug)]
pub struct Sender {
    way: SendWay,
}

impl Sender {
    pub fn with(way: SendWay) -> Self {
        Sender { way }
    }

    pub fn way(&self) -> SendWay {
        self.way
    }

    /// Sends `bytes` as datagrams of `datagram_bytes`, the last perhaps shorter; 64 of them and 65,507 bytes at most. Says how many the
    /// kernel took; `WouldBlock` when that is none for now.
    pub fn send_train(&mut self, socket: RawFd, to: &SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize> {
        let to = SockAddr::from(*to);
        let size = usize::from(datagram_bytes).max(1);
        let mut way = if bytes.len() <= size { SendWay::Single } else { self.way };
        loop {
            let result = match way {
                SendWay::Segment => send_one(socket, &to, bytes, Some(datagram_bytes)).map(|()| bytes.len().div_ceil(size)),
                SendWay::Many => send_many(socket, &to, bytes, size),
                SendWay::Single => send_singly(socket, &to, bytes, size),
            };
            let error = match result {
                Ok(count) => return Ok(count),
                Err(error) => error,
            };
            match (error.raw_os_error().unwrap_or(0), fallback(way, &error)) {
                // An answer to an earlier datagram: nobody listens there, or not yet. This one has not been tried.
                (libc::ECONNREFUSED, _) => {}
                (libc::ENOBUFS, _) => return Err(io::ErrorKind::WouldBlock.into()),
                (_, Some(Fallback::ThisTrain(next))) => way = next,
                (_, Some(Fallback::Always(next))) => {
                    log::warn!("UDP: {} does not work here ({error}), going on with {}", way.name(), next.name());
                    (way, self.way) = (next, next);
                }
                (_, None) => return Err(error),
            }
        }
    }
}

/// What to try after an error.
#[derive(Debug, PartialEq, Eq)]
enum Fallback {
    /// The way does not suit this destination; others may take it.
    ThisTrain(SendWay),
    /// The way is not there, on this device or at all.
    Always(SendWay),
}

/// `None`: the error has nothing to do with the way.
fn fallback(way: SendWay, error: &io::Error) -> Option<Fallback> {
    match (way, error.raw_os_error()?) {
        // The datagrams are larger than the route takes: those that come one by one the kernel fragments. Linux says EMSGSIZE from 6.14
        // on. Or the address cannot be sent to at all.
        (SendWay::Segment, libc::EINVAL | libc::EMSGSIZE) => Some(Fallback::ThisTrain(SendWay::Many)),
        // EIO: the device cannot checksum what the kernel would have to cut.
        (SendWay::Segment, libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => Some(Fallback::Always(SendWay::Many)),
        (SendWay::Many, libc::ENOSYS) => Some(Fallback::Always(SendWay::Single)),
        _ => None,
    }
}

/// A segment size as control data, aligned as the kernel wants it.
#[repr(align(8))]
struct SegmentControl([u8; 32]);

fn send_one(socket: RawFd, to: &SockAddr, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
    let mut iovec = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = message_to(to, &mut iovec);
    let mut control = SegmentControl([0; 32]);
    if let Some(segment) = segment {
        // SAFETY: `CMSG_SPACE` of two bytes fits the buffer, and the header stands at its beginning.
        unsafe {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
        }
    }
    // SAFETY: `message` and what it points to live through the call; the kernel only reads the bytes.
    let result = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn message_to(to: &SockAddr, iovec: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: an all-zero `msghdr` is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = iovec;
    message.msg_iovlen = 1;
    message
}

fn send_many(socket: RawFd, to: &SockAddr, bytes: &[u8], size: usize) -> io::Result<usize> {
    // SAFETY: all-zero `iovec`s and `mmsghdr`s are valid: they point to nothing.
    let (mut iovecs, mut messages): ([libc::iovec; TRAIN_MAX], [libc::mmsghdr; TRAIN_MAX]) = unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for ((datagram, iovec), message) in bytes.chunks(size).zip(&mut iovecs).zip(&mut messages) {
        *iovec = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        message.msg_hdr = message_to(to, iovec);
        count += 1;
    }
    // SAFETY: as in `send_one`, for `count` messages.
    let result = unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), count, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn send_singly(socket: RawFd, to: &SockAddr, bytes: &[u8], size: usize) -> io::Result<usize> {
    for (at, datagram) in bytes.chunks(size).enumerate() {
        match send_one(socket, to, datagram, None) {
            Err(error) if at == 0 => return Err(error),
            // The rest is lost, as it would be on the way.
            Err(_) => return Ok(at),
            Ok(()) => {}
        }
    }
    Ok(bytes.len().div_ceil(size))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_configuration_decides_before_the_kernel() {
        assert_eq!(SendWay::choose(UdpSegmentation::Off), (SendWay::Many, "as configured"));
        let expected = if has_segmentation() { SendWay::Segment } else { SendWay::Many };
        assert_eq!(SendWay::choose(UdpSegmentation::Auto).0, expected);
    }

    #[test]
    fn every_way_sends_the_same_datagrams() {
        let receiving = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiving.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let sending = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiving.local_addr().unwrap();
        let train: Vec<u8> = (0..2_500u32).map(|at| at as u8).collect();
        for way in [SendWay::Segment, SendWay::Many, SendWay::Single] {
            let mut sender = Sender::with(way);
            assert_eq!(sender.send_train(sending.as_raw_fd(), &to, &train, 1_000).unwrap(), 3, "{way:?}");
            let mut buffer = [0; 2_000];
            for expected in train.chunks(1_000) {
                let bytes = receiving.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..bytes], expected, "{way:?}");
            }
            assert!(sender.way() == way || way == SendWay::Segment && !has_segmentation(), "{way:?} became {:?}", sender.way());
        }
    }
    #[test]
    fn what_an_error_says_of_the_way() {
        use Fallback::{Always, ThisTrain};
        use SendWay::{Many, Segment, Single};
        for (way, code, expected) in [
            (Segment, libc::EINVAL, Some(ThisTrain(Many))),
            (Segment, libc::EMSGSIZE, Some(ThisTrain(Many))),
            (Segment, libc::EIO, Some(Always(Many))),
            (Segment, libc::ENOPROTOOPT, Some(Always(Many))),
            (Segment, libc::EOPNOTSUPP, Some(Always(Many))),
            (Segment, libc::EHOSTUNREACH, None),
            (Many, libc::ENOSYS, Some(Always(Single))),
            (Many, libc::EINVAL, None),
            (Single, libc::EINVAL, None),
        ] {
            assert_eq!(fallback(way, &io::Error::from_raw_os_error(code)), expected, "{way:?} after {code}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_sent_to_changes_nothing_for_others() {
        let sending = UdpSocket::bind("127.0.0.1:0").unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let way = SendWay::choose(UdpSegmentation::Auto).0;
        let mut sender = Sender::with(way);
        for datagram_bytes in [1_000, 2_500] {
            let error = sender.send_train(sending.as_raw_fd(), &nowhere, &[0; 2_500], datagram_bytes).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(sender.way(), way);
        }
    }
}
