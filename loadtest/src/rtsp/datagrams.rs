//! UDP sockets: pairs of ports for RTP and RTCP, batches of datagrams in and out.
//!
//! In: one `recvmmsg` per call, so that one call takes what came together. With `joined` the kernel may give several datagrams of one
//! sender as one piece (`UDP_GRO`): no player asks for that, but over loopback it spares the sender's core the cutting, as a network
//! card would. Out: one `sendmmsg` per access unit, never segmentation. What a socket had no room for is asked of the kernel at the end.
//!
//! Limits: [`BATCH`] datagrams per call. All sockets are non-blocking.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use socket2::SockRef;

use super::client::PortPair;

const BATCH: usize = 16;
/// The kernel joins datagrams up to this.
const BUFFER_BYTES: usize = 64 * 1024;
/// A segment size behind its header.
const CONTROL_BYTES: usize = 32;
/// Asked for per socket: this program is not to be the one that loses packets.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Tries to find two neighbouring ports.
const TRIES_MAX: usize = 100;
/// Index of the dropped datagrams in `SO_MEMINFO`, and how many figures there are.
const MEMINFO_DROPS: usize = 8;
const MEMINFO_FIGURES: usize = 9;

/// Two neighbouring ports, the even one for RTP.
pub struct Pair {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

impl Pair {
    /// At any free ports of this address.
    pub fn open(ip: IpAddr, joined: bool) -> io::Result<Pair> {
        for _ in 0..TRIES_MAX {
            let one = UdpSocket::bind((ip, 0))?;
            let port = one.local_addr()?.port();
            let other = match UdpSocket::bind((ip, port ^ 1)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                other => other?,
            };
            let (rtp, rtcp) = if port % 2 == 0 { (one, other) } else { (other, one) };
            for socket in [&rtp, &rtcp] {
                socket.set_nonblocking(true)?;
                SockRef::from(socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
            }
            if joined {
                set_option(rtp.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)?;
            }
            return Ok(Pair { rtp, rtcp });
        }
        Err(io::Error::other("no two neighbouring UDP ports are free"))
    }

    pub fn ports(&self) -> io::Result<PortPair> {
        Ok(PortPair { rtp: self.rtp.local_addr()?.port(), rtcp: self.rtcp.local_addr()?.port() })
    }

    /// Datagrams that these sockets had no room for.
    pub fn dropped(&self) -> u64 {
        [&self.rtp, &self.rtcp].iter().map(|socket| dropped(socket.as_raw_fd())).sum()
    }
}

fn set_option(socket: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value lives through the call and has the size that is given.
    match unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn dropped(socket: RawFd) -> u64 {
    let mut figures = [0u32; MEMINFO_FIGURES];
    let mut size = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the buffer lives through the call and has the size that is given.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, figures.as_mut_ptr().cast(), &raw mut size) };
    // An old kernel does not say.
    if result == 0 { figures[MEMINFO_DROPS].into() } else { 0 }
}

/// The buffers for what is received, one set for all sockets.
pub struct Receiver {
    buffers: Vec<u8>,
    control: Vec<[u64; CONTROL_BYTES / 8]>,
}

impl Receiver {
    pub fn new() -> Receiver {
        // Pages that no datagram reaches are never touched.
        Receiver { buffers: vec![0; BATCH * BUFFER_BYTES], control: vec![[0; CONTROL_BYTES / 8]; BATCH] }
    }

    /// Gives `each` what has come, at most one batch.
    pub fn receive(&mut self, socket: RawFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
            iov_base: self.buffers[at * BUFFER_BYTES..].as_mut_ptr().cast(),
            iov_len: BUFFER_BYTES,
        });
        // SAFETY: an all-zero `mmsghdr` is valid: no name, no buffers.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (at, message) in messages.iter_mut().enumerate() {
            message.msg_hdr.msg_iov = &raw mut iovecs[at];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = self.control[at].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        let flags = libc::MSG_DONTWAIT as _;
        // SAFETY: all that the messages point to lives through the call, in the sizes that they give.
        let count = unsafe { libc::recvmmsg(socket, messages.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut()) };
        if count < 0 {
            let error = io::Error::last_os_error();
            // Refused: nobody listens where something of ours went; the next read goes on.
            let harmless = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused);
            return if harmless { Ok(()) } else { Err(error) };
        }
        for (at, message) in messages[..count as usize].iter().enumerate() {
            let bytes = &self.buffers[at * BUFFER_BYTES..][..(message.msg_len as usize).min(BUFFER_BYTES)];
            let segment = segment_bytes(&message.msg_hdr).unwrap_or(bytes.len()).max(1);
            bytes.chunks(segment).for_each(&mut each);
        }
        Ok(())
    }
}

/// The size of the joined datagrams, if they are.
fn segment_bytes(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has filled the control buffer as far as `msg_controllen` says; the macros stay within that.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header).as_ref()?;
        let is_segment = (control.cmsg_level, control.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
        is_segment.then(|| libc::CMSG_DATA(control).cast::<i32>().read_unaligned()).and_then(|size| size.try_into().ok())
    }
}

/// Sends datagrams from a connected socket; says how many the kernel took.
pub fn send<'a>(socket: &UdpSocket, datagrams: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
    let mut datagrams = datagrams.peekable();
    let mut sent = 0;
    while datagrams.peek().is_some() {
        // SAFETY: all-zero `iovec`s and `mmsghdr`s are valid: they point to nothing.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { (zeroed(), zeroed()) };
        let mut count = 0;
        for ((iovec, message), datagram) in iovecs.iter_mut().zip(&mut messages).zip(&mut datagrams) {
            *iovec = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
        // SAFETY: all that the messages point to lives through the call; the kernel only reads it.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, flags) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(sent) } else { Err(error) };
        }
        sent += result as usize;
        if (result as u32) < count {
            return Ok(sent);
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_neighbours_and_datagrams_go_in_batches() {
        for joined in [false, true] {
            let (from, to) = (Pair::open(LOOPBACK, false).unwrap(), Pair::open(LOOPBACK, joined).unwrap());
            let PortPair { rtp, rtcp } = to.ports().unwrap();
            assert!(rtp % 2 == 0 && rtcp == rtp + 1);
            from.rtp.connect((LOOPBACK, rtp)).unwrap();
            let datagrams: Vec<Vec<u8>> = (0..40u8).map(|at| vec![at; 100 + usize::from(at)]).collect();
            assert_eq!(send(&from.rtp, datagrams.iter().map(Vec::as_slice)).unwrap(), 40);
            let mut came = Vec::new();
            let mut receiver = Receiver::new();
            // Over loopback they are there when the call that sends them returns.
            for _ in 0..40 {
                receiver.receive(to.rtp.as_raw_fd(), |bytes| came.push(bytes.to_vec())).unwrap();
            }
            assert_eq!(came, datagrams);
            assert_eq!(to.dropped(), 0);
        }
    }

    #[test]
    fn the_kernel_says_what_it_dropped() {
        let (from, to) = (Pair::open(LOOPBACK, false).unwrap(), Pair::open(LOOPBACK, false).unwrap());
        SockRef::from(&to.rtp).set_recv_buffer_size(4096).unwrap();
        from.rtp.connect(to.rtp.local_addr().unwrap()).unwrap();
        for _ in 0..100 {
            send(&from.rtp, [&[0; 1000][..]].into_iter()).unwrap();
        }
        let mut came = 0;
        for _ in 0..100 {
            Receiver::new().receive(to.rtp.as_raw_fd(), |_| came += 1).unwrap();
        }
        assert!((1..100).contains(&came) && to.dropped() == 100 - came, "{came} came, {} dropped", to.dropped());
    }
}
