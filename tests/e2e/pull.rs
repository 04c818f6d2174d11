//! ffmpeg pushes a file, eight viewers pull it over all protocols, and others until every shard has one: every packet from the first
//! received on is the file's, bit for bit, with its times, up to the end. The log tells of events only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::{self, H264_AAC, Recipe};
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Viewer, framemd5, fresh_folder, missing, wait_for};

on_both_runtimes!(one_shard, four_shards);

/// The kernel chooses the shard of a connection: so many find all of four, but for one run in a hundred million.
const FURTHER_VIEWERS_MAX: usize = 64;
/// Lines of the log about a start, an end, and one publisher; each viewer comes and goes.
const LOG_LINES_MAX: usize = 20;
const LOG_LINES_PER_VIEWER: usize = 2;

fn one_shard(runtime: Runtime) {
    pull_by_eight(runtime, 1);
}

fn four_shards(runtime: Runtime) {
    pull_by_eight(runtime, 4);
}

/// One of the viewers: ffmpeg at a URL, or our WebSocket client whose file ffmpeg reads afterwards.
enum Puller {
    Ffmpeg { url: String, client: Client, output: PathBuf },
    WebSocket { viewer: Viewer, file: PathBuf },
}

impl Puller {
    fn ffmpeg(recipe: &Recipe, url: String, output: PathBuf) -> Option<Self> {
        let client = Client::start(recipe.ffmpeg()?.args(framemd5::arguments(&url, &output)));
        Some(Puller::Ffmpeg { url, client, output })
    }

    #[track_caller]
    fn finish(self, recipe: &Recipe) -> (String, framemd5::Streams) {
        match self {
            Puller::Ffmpeg { url, client, output } => {
                client.succeed();
                (url, framemd5::read(&output))
            }
            Puller::WebSocket { viewer, file } => {
                let seen = viewer.wait_end();
                std::fs::write(&file, seen.bytes).unwrap();
                (viewer.name.clone(), media::framemd5_of(recipe.ffmpeg().unwrap(), &file))
            }
        }
    }
}

/// Pushes `recipe` to `key`, pulls it over RTMP and HTTP-FLV with the same ffmpeg, and compares. `None`: there is no such ffmpeg.
pub fn assert_bit_exact(server: &Server, recipe: &Recipe, key: &str, codecs: &[&str]) -> Option<()> {
    let sent = recipe.framemd5()?;
    let folder = fresh_folder("bit-exact");
    let push = recipe.push(&server.rtmp_url(key))?;
    server.wait_live(key);
    let rtmp = Puller::ffmpeg(recipe, server.rtmp_url(key), folder.join("rtmp"))?;
    let flv = Puller::ffmpeg(recipe, server.flv_url(key), folder.join("flv"))?;
    wait_for(&format!("the API says that {key} has {codecs:?}"), SOON, || {
        let stream = server.stream(key)?;
        let tracks = stream["tracks"].as_array()?;
        let has = |codec: &&str| tracks.iter().any(|track| track["codec"] == *codec);
        (tracks.len() == codecs.len() && codecs.iter().all(has)).then_some(())
    });
    push.succeed();
    for puller in [rtmp, flv] {
        let (who, seen) = puller.finish(recipe);
        framemd5::assert_tail(&seen, &sent, &who);
    }
    let _ = std::fs::remove_dir_all(folder);
    Some(())
}

fn pullers(server: &Server, folder: &Path) -> Vec<Puller> {
    let ffmpeg = |url: String, at: usize| Puller::ffmpeg(&H264_AAC, url, folder.join(format!("{at}.md5"))).unwrap();
    let websocket = |at: usize| Puller::WebSocket {
        viewer: Viewer::open(server, Over::WsFlv, "live/pull"),
        file: folder.join(format!("{at}.flv")),
    };
    let mut pullers: Vec<Puller> = (0..3).map(|at| ffmpeg(server.rtmp_url("live/pull"), at)).collect();
    pullers.extend((3..6).map(|at| ffmpeg(server.flv_url("live/pull"), at)));
    pullers.extend((6..8).map(websocket));
    pullers
}

fn shards_of(sessions: &[serde_json::Value]) -> BTreeSet<u64> {
    sessions.iter().map(|session| session["shard"].as_u64().unwrap()).collect()
}

/// Opens viewers until every shard has one. There are some already.
fn fill_shards(server: &Server, shards: u16) -> Vec<Viewer> {
    let there = server.wait_sessions("viewer", 8);
    let mut further = Vec::new();
    let mut on_shards = shards_of(&there);
    while on_shards.len() < usize::from(shards) {
        assert!(further.len() < FURTHER_VIEWERS_MAX, "{} viewers are on the shards {on_shards:?}", there.len() + further.len());
        further.extend((0..4).map(|at| Viewer::open(server, Over::ALL[at % 3], "live/pull")));
        on_shards = shards_of(&server.wait_sessions("viewer", there.len() + further.len()));
    }
    println!("{} viewers are on the shards {on_shards:?}", there.len() + further.len());
    further
}

fn pull_by_eight(runtime: Runtime, shards: u16) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let sent = H264_AAC.framemd5().unwrap();
    let server = Server::start(Options::new(runtime).shards(shards));
    let folder = fresh_folder("pull");
    let push = H264_AAC.push(&server.rtmp_url("live/pull")).unwrap();
    server.wait_live("live/pull");
    let pullers = pullers(&server, &folder);
    let further = fill_shards(&server, shards);
    wait_for("the owner tells of all other shards", SOON, || {
        let stream = server.stream("live/pull")?;
        (stream["watching_shards"].as_array()?.len() == usize::from(shards - 1)).then_some(())
    });
    let peer = server.stream("live/pull").unwrap()["publisher"]["peer"].as_str().unwrap().to_owned();
    push.succeed();
    for puller in pullers {
        let (who, seen) = puller.finish(&H264_AAC);
        let counts = framemd5::assert_tail(&seen, &sent, &who);
        assert!(counts["video"] >= 50 && counts["audio"] >= 80, "{who} saw {counts:?}: too little to tell");
    }
    let tags = H264_AAC.tags().unwrap();
    for viewer in &further {
        let seen = viewer.wait_over().tags;
        let pictures = flv::assert_tail(&seen, &tags, VIDEO);
        assert!(pictures >= 50, "{} saw {pictures} pictures: too little to tell", viewer.name);
        flv::assert_tail(&seen, &tags, AUDIO);
    }
    server.wait_log("who has ended it", |line| line.ends_with(&format!("live/pull: ended by its publisher {peer}")));
    let lines = server.log().lines().count();
    let most = LOG_LINES_MAX + LOG_LINES_PER_VIEWER * (8 + further.len());
    println!("{lines} lines in the log");
    assert!(lines <= most, "{lines} lines in the log, at most {most} have a reason:\n{}", server.log());
    let _ = std::fs::remove_dir_all(folder);
}
