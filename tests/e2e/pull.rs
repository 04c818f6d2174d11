//! ffmpeg pushes a file, eight viewers pull it over all protocols: every packet from the first received on is the file's, bit for
//! bit, with its times, up to the end.

use std::path::{Path, PathBuf};

use crate::harness::media::{self, H264_AAC, Recipe};
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Viewer, framemd5, fresh_folder, missing, wait_for};

on_both_runtimes!(one_shard, four_shards);

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
    let viewers = server.wait_sessions("viewer", 8);
    let mut on_shards: Vec<u64> = viewers.iter().map(|session| session["shard"].as_u64().unwrap()).collect();
    on_shards.sort_unstable();
    on_shards.dedup();
    println!("{shards} shards: viewers on {on_shards:?}");
    assert_eq!(on_shards.len() > 1, shards > 1, "8 viewers are on the shards {on_shards:?}");
    if shards > 1 {
        wait_for("the owner tells of watching shards", SOON, || {
            let stream = server.stream("live/pull")?;
            (!stream["watching_shards"].as_array()?.is_empty()).then_some(())
        });
    }
    push.succeed();
    for puller in pullers {
        let (who, seen) = puller.finish(&H264_AAC);
        let counts = framemd5::assert_tail(&seen, &sent, &who);
        assert!(counts["video"] >= 50 && counts["audio"] >= 80, "{who} saw {counts:?}: too little to tell");
    }
    let _ = std::fs::remove_dir_all(folder);
}
