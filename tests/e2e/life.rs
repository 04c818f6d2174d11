//! A stream's life: waiting for it, a name that is taken, taking over, kicking, and the end of the server.

use std::time::{Duration, Instant};

use crate::harness::api::request;
use crate::harness::flv::{VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY, only};
use crate::harness::viewer::narrow_viewer;
use crate::harness::{Client, Options, Over, Publisher, Runtime, SOON, Server, Tag, Viewer, missing, wait_for};

on_both_runtimes!(
    play_before_publish,
    absent_stream,
    second_publisher,
    takeover,
    start_live,
    kick,
    terminate,
    terminate_beside_dead_peers,
    names
);

fn play_before_publish(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(4));
    let viewers: Vec<Viewer> = (0..6).map(|at| Viewer::open(&server, Over::ALL[at % 3], "live/soon")).collect();
    let mut ffmpeg = H264_AAC.ffmpeg().unwrap();
    let url = server.rtmp_url("live/soon");
    let pull = Client::start(ffmpeg.args(["-i", &url, "-c", "copy", "-frames:v", "25", "-f", "null", "-"]));
    server.wait_sessions("waiting", 7);
    let _streaming = Publisher::connect(&server, "live/soon").stream(H264_AAC.tags().unwrap());
    for viewer in &viewers {
        let seen = viewer.wait_frames(VIDEO, 25).tags;
        assert!(of_kind(&seen, VIDEO).next().unwrap().is_key(), "{} begins at a keyframe", viewer.name);
    }
    pull.succeed();
}

fn absent_stream(runtime: Runtime) {
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.wait_ms", 300));
    let answers = [(Over::HttpFlv, "404"), (Over::WsFlv, "404"), (Over::Rtmp, "NetStream.Play.StreamNotFound")];
    for (over, answer) in answers {
        let began = Instant::now();
        let viewer = Viewer::open(&server, over, "live/absent");
        let seen = viewer.wait_end();
        let said = format!("{} {}", seen.said, seen.ended.unwrap());
        assert!(said.contains(answer), "{}: {said}", viewer.name);
        assert!(began.elapsed() >= Duration::from_millis(300), "{} was not given its time", viewer.name);
        if over == Over::HttpFlv {
            let body = String::from_utf8(seen.bytes).unwrap();
            assert!(body.contains("{\"error\""), "{body}");
        }
    }
}

fn second_publisher(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    for shards in [1, 4] {
        let server = Server::start(Options::new(runtime).shards(shards));
        let streaming = Publisher::connect(&server, "live/mine").stream(H264_AAC.tags().unwrap());
        server.wait_live("live/mine");
        let viewer = Viewer::open(&server, Over::HttpFlv, "live/mine");
        assert_eq!(Publisher::try_connect(&server, "live/mine").err().as_deref(), Some("NetStream.Publish.BadName"));
        let mut second = H264_AAC.push(&server.rtmp_url("live/mine")).unwrap();
        let status = second.wait(SOON);
        assert!(!status.success(), "ffmpeg could publish a name that is taken");
        let frames = of_kind(&viewer.seen().tags, VIDEO).count();
        viewer.wait_frames(VIDEO, frames + 25);
        let sent = streaming.finish();
        crate::harness::flv::assert_tail(&viewer.wait_end().tags, &sent, VIDEO);
    }
}

fn takeover(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    for shards in [1, 4] {
        let server = Server::start(Options::new(runtime).shards(shards).set("stream.takeover_silence_ms", 500));
        let url = server.rtmp_url("live/hung");
        let hung = H264_AAC.push_forever(&url).unwrap();
        server.wait_live("live/hung");
        let viewer = Viewer::open(&server, Over::HttpFlv, "live/hung");
        viewer.wait_frames(VIDEO, 10);
        hung.signal(libc::SIGSTOP);
        // Until the first has been silent long enough, the second is refused.
        let second = wait_for("the name can be taken", SOON, || Publisher::try_connect(&server, "live/hung").ok());
        let frames = of_kind(&viewer.seen().tags, VIDEO).count();
        let _streaming = second.stream(H264_AAC.tags().unwrap());
        let seen = viewer.wait_frames(VIDEO, frames + 25);
        assert_eq!(seen.ended, None);
        crate::harness::flv::assert_monotonic(&seen.tags, VIDEO);
        assert_eq!(server.stream("live/hung").unwrap()["publishers_so_far"], 2);
    }
}

/// The pictures up to a keyframe, and from it to the next.
fn two_gops(tags: &[Tag]) -> (Vec<Tag>, Vec<Tag>) {
    let pictures = only(tags, VIDEO);
    let keys: Vec<usize> = (0..pictures.len()).filter(|at| pictures[*at].is_key()).collect();
    (pictures[..keys[1]].to_vec(), pictures[keys[1]..keys[2]].to_vec())
}

fn start_live(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (first, second) = two_gops(&H264_AAC.tags().unwrap());
    let server = Server::start(Options::new(runtime).shards(2));
    let mut publisher = Publisher::connect(&server, "live/now");
    assert!(first.iter().all(|tag| publisher.send(tag)));
    server.wait_live("live/now");
    let open = |over, query: &str| Viewer::open(&server, over, &format!("live/now{query}"));
    let gop = Over::ALL.map(|over| open(over, "?start=gop"));
    let live = Over::ALL.map(|over| open(over, "?start=live"));
    server.wait_sessions("viewer", 6);
    let pictures = of_kind(&first, VIDEO).count();
    for viewer in &gop {
        viewer.wait_frames(VIDEO, pictures);
    }
    assert!(live.iter().all(|viewer| of_kind(&viewer.seen().tags, VIDEO).count() == 0), "?start=live got something old");
    assert!(second.iter().all(|tag| publisher.send(tag)));
    for viewer in &live {
        let seen = viewer.wait_frames(VIDEO, second.len()).tags;
        assert_eq!(crate::harness::flv::assert_tail(&seen, &second, VIDEO), second.len(), "{}", viewer.name);
        let config = seen.iter().position(|tag| tag.kind == VIDEO && tag.is_config()).unwrap();
        assert!(config < seen.iter().position(Tag::is_key).unwrap(), "{}", viewer.name);
    }
}

fn kick(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2));
    let mut push = H264_AAC.push_forever(&server.rtmp_url("live/kick")).unwrap();
    server.wait_live("live/kick");
    let viewers = Over::ALL.map(|over| Viewer::open(&server, over, "live/kick"));
    let delete = |id: &str| request(server.control, "DELETE", &format!("/api/v1/sessions/{id}"), &[]).status;
    for session in server.wait_sessions("viewer", 3) {
        assert_eq!(delete(session["id"].as_str().unwrap()), 204);
    }
    let ends = viewers.each_ref().map(|viewer| viewer.wait_end().ended.unwrap());
    assert_eq!(ends[1], "closed with code 1008", "over WebSocket");
    let publisher = server.wait_sessions("publisher", 1)[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(delete(&publisher), 204);
    assert!(!push.wait(SOON).success(), "the kicked ffmpeg knows that it failed");
    assert_eq!(wait_for("the session is gone", SOON, || Some(delete(&publisher)).filter(|status| *status != 204)), 404);
    assert_eq!((delete("99-1"), delete("x")), (404, 400));
}

fn terminate(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let drain = Duration::from_secs(4);
    let mut server = Server::start(Options::new(runtime).shards(2).set("server.drain_ms", drain.as_millis()));
    let mut push = H264_AAC.push_forever(&server.rtmp_url("live/end")).unwrap();
    server.wait_live("live/end");
    let viewers = Over::ALL.map(|over| Viewer::open(&server, over, "live/end"));
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 5);
    }
    let waiting = Viewer::open(&server, Over::HttpFlv, "live/never");
    server.wait_sessions("waiting", 1);
    let began = Instant::now();
    server.signal(libc::SIGTERM);
    let status = server.wait_exit();
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < drain + Duration::from_secs(1), "it took {:?}", began.elapsed());
    assert_eq!(viewers[1].wait_end().ended.unwrap(), "closed with code 1001", "over WebSocket");
    for viewer in &viewers {
        viewer.wait_end();
    }
    assert!(waiting.wait_end().said.starts_with("HTTP/1.1 503"));
    push.wait(SOON);
}

/// Peers that can be told nothing are not waited for any longer than the drain time.
fn terminate_beside_dead_peers(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let drain = Duration::from_secs(2);
    let mut server =
        Server::start(Options::new(runtime).shards(2).set("server.drain_ms", drain.as_millis()).set("viewer.lag_ms_max", 500));
    let stopped = H264_AAC.push_forever(&server.rtmp_url("live/stopped")).unwrap();
    let _streaming = Publisher::connect(&server, "live/heavy").stream(H264_AAC_HEAVY.tags().unwrap());
    server.wait_live("live/stopped");
    server.wait_live("live/heavy");
    let _unread = narrow_viewer(&server, "live/heavy");
    wait_for("the viewer's buffers are full", SOON, || (server.sessions("viewer")[0]["skips"] != 0).then_some(()));
    stopped.signal(libc::SIGSTOP);
    let began = Instant::now();
    server.signal(libc::SIGTERM);
    let status = server.wait_exit();
    let took = began.elapsed();
    println!("{}: ended in {took:?}", runtime.name());
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < drain + Duration::from_secs(1), "it took {took:?}");
}

fn names(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let _push = H264_AAC.push_forever(&server.rtmp_url("live/room/9/cam?token=abc&x=1")).unwrap();
    let stream = server.wait_live("live/room/9/cam");
    assert_eq!((&stream["app"], &stream["name"]), (&"live/room/9".into(), &"cam".into()));
    for url in [server.rtmp_url("live/room/9/cam?token=abc"), format!("{}?token=abc", server.flv_url("live/room/9/cam"))] {
        let mut ffmpeg = H264_AAC.ffmpeg().unwrap();
        Client::start(ffmpeg.args(["-i", &url, "-c", "copy", "-frames:v", "10", "-f", "null", "-"])).succeed();
    }
    Viewer::open(&server, Over::WsFlv, "live/room/9/cam?token=abc").wait_frames(VIDEO, 5);
}
