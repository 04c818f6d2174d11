//! Socket calls that both runtimes share, on the raw descriptor.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

const BACKLOG: i32 = 4096;
/// How long an address is asked for that is taken. The kernel frees the listeners of a process that used io_uring some milliseconds after
/// its end (6 to 11 seen on Linux 6), and whoever restarts a server does not wait for that.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Listens on `address` with one socket per shard; the kernel spreads connections over them. Port 0 becomes one free port for all.
pub fn listen(address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    // With SO_REUSEPORT a second server would share the port in silence: ask without it first.
    let address = local(&bind_alone(address)?)?;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        sockets.push(OwnedFd::from(socket));
    }
    Ok((address, sockets))
}

/// A listener that shares its port with nobody. Waits for it, [`PATIENCE`] at most: for the start only.
fn bind_alone(address: SocketAddr) -> io::Result<Socket> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = new_socket(address)?;
        let bound = socket.bind(&address.into()).and_then(|()| socket.listen(1));
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => std::thread::sleep(PAUSE),
            bound => return bound.map(|()| socket),
        }
    }
}

/// Listens on `address` with one socket; `backlog` connections wait at most.
pub fn listen_alone(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Our end of a connection.
pub fn local_address(socket: RawFd) -> io::Result<SocketAddr> {
    with(socket, |socket| socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::NotConnected.into()))
}

/// The other end of a connection.
pub fn peer(socket: RawFd) -> io::Result<SocketAddr> {
    with(socket, |socket| socket.peer_addr()?.as_socket().ok_or_else(|| io::ErrorKind::NotConnected.into()))
}

/// What every media connection wants: no delay, a small send queue in the kernel (lag is to show in the server, where viewers can be
/// moved to a keyframe), and no leak into child processes.
pub fn prepare(socket: RawFd, unsent_bytes_max: u32) -> io::Result<()> {
    with(socket, |socket| {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(unsent_bytes_max)?;
        socket.set_cloexec(true)
    })
}

/// Ends our side: the peer reads what was sent, then the end.
pub fn finish(socket: RawFd) {
    // The peer may have gone already; then there is nothing to end.
    drop(with(socket, |socket| socket.shutdown(std::net::Shutdown::Write)));
}

/// A second descriptor of the same connection.
pub fn duplicate(socket: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller keeps the socket open during the call.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }.try_clone_to_owned()
}

/// Sends what the kernel takes at once.
pub fn send(socket: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // Most sends are of one slice, for which the kernel has nothing to gather.
    if let [slice] = slices {
        // SAFETY: the slice lives through the call.
        let result = unsafe { libc::send(socket, slice.as_ptr().cast(), slice.len(), FLAGS) };
        return usize::try_from(result).map_err(|_| io::Error::last_os_error());
    }
    // SAFETY: an all-zero `msghdr` is valid: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is an `iovec` by its documentation; the kernel only reads through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    // SAFETY: `message` and what it points to live through the call.
    let result = unsafe { libc::sendmsg(socket, &raw const message, FLAGS) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The processors that this process may use.
pub fn cores() -> Vec<usize> {
    // SAFETY: an all-zero `cpu_set_t` is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place for the result of this size.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: every index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

pub fn pin_thread(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is an empty set; `core` came from such a set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit on open files to what the system allows; says what it is now.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
                return limit.rlim_max;
            }
        }
    }
    limit.rlim_cur
}

fn with<T>(socket: RawFd, call: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the shard's table holds a descriptor only while its task keeps the socket open.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    call(SockRef::from(&socket.as_fd()))
}
