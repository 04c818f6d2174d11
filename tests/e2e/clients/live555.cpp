// A player made of live555, whose RTSP and RTP are also VLC's: URL, tcp or udp, and a folder in; until the stream ends, what live555
// receives into the files `video` (NAL units behind start codes, parameter sets of the description first) and `audio` (AAC behind
// ADTS headers). H.264 and AAC only. Ends with 0 when the server has said goodbye on all tracks.

#include <cstdio>
#include <cstring>
#include <string>

#include "BasicUsageEnvironment.hh"
#include "liveMedia.hh"

namespace {

const unsigned FRAME_BYTES_MAX = 1 << 20;

UsageEnvironment *env;
std::string folder;
bool is_tcp;
MediaSession *session;
MediaSubsession *starting;
MediaSubsessionIterator *iterator;
int playing = 0;

void fail(const std::string &what) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), env->getResultMsg());
    std::exit(1);
}

// Each frame as it comes, behind a header.
class AdtsSink : public MediaSink {
public:
    AdtsSink(FILE *file, const char *config) : MediaSink(*env), file(file) {
        unsigned first = 0, second = 0;
        if (std::sscanf(config, "%2x%2x", &first, &second) != 2) fail("the configuration of AAC");
        object = first >> 3, rate = (first & 7) << 1 | second >> 7, channels = second >> 3 & 15;
    }

private:
    Boolean continuePlaying() override {
        fSource->getNextFrame(frame, sizeof frame, taken, this, onSourceClosure, this);
        return True;
    }

    static void taken(void *sink, unsigned bytes, unsigned cut, timeval, unsigned) {
        auto *self = static_cast<AdtsSink *>(sink);
        if (cut > 0) fail("a frame was cut off");
        unsigned size = bytes + 7;
        unsigned char header[7] = {
            0xFF, 0xF1, (unsigned char)((self->object - 1) << 6 | self->rate << 2 | self->channels >> 2),
            (unsigned char)((self->channels & 3) << 6 | size >> 11), (unsigned char)(size >> 3),
            (unsigned char)((size & 7) << 5 | 0x1F), 0xFC};
        std::fwrite(header, 1, sizeof header, self->file);
        std::fwrite(self->frame, 1, bytes, self->file);
        std::fflush(self->file);
        self->continuePlaying();
    }

    FILE *file;
    unsigned object, rate, channels;
    unsigned char frame[8192];
};

void ended(void *) {
    if (--playing == 0) std::exit(0);
}

void set_up_next(RTSPClient *client);

void played(RTSPClient *, int code, char *) {
    if (code != 0) fail("PLAY");
}

void set_up(RTSPClient *client, int code, char *) {
    if (code != 0) fail("SETUP");
    MediaSubsession &track = *starting;
    bool is_video = std::strcmp(track.mediumName(), "video") == 0;
    std::string path = folder + (is_video ? "/video" : "/audio");
    if (is_video) {
        track.sink = H264VideoFileSink::createNew(*env, path.c_str(), track.fmtp_spropparametersets(), FRAME_BYTES_MAX);
    } else {
        track.sink = new AdtsSink(std::fopen(path.c_str(), "wb"), track.fmtp_config());
    }
    track.sink->startPlaying(*track.readSource(), ended, nullptr);
    if (track.rtcpInstance()) track.rtcpInstance()->setByeHandler(ended, nullptr);
    ++playing;
    set_up_next(client);
}

void set_up_next(RTSPClient *client) {
    starting = iterator->next();
    if (!starting) {
        client->sendPlayCommand(*session, played);
        return;
    }
    if (!starting->initiate()) fail("a track");
    client->sendSetupCommand(*starting, set_up, False, is_tcp);
}

void described(RTSPClient *client, int code, char *text) {
    if (code != 0) fail("DESCRIBE");
    session = MediaSession::createNew(*env, text);
    if (!session) fail("the description");
    iterator = new MediaSubsessionIterator(*session);
    set_up_next(client);
}

} // namespace

int main(int count, char **words) {
    if (count != 4) return 2;
    env = BasicUsageEnvironment::createNew(*BasicTaskScheduler::createNew());
    is_tcp = std::strcmp(words[2], "tcp") == 0;
    folder = words[3];
    RTSPClient *client = RTSPClient::createNew(*env, words[1], 0, "live555");
    client->sendDescribeCommand(described);
    env->taskScheduler().doEventLoop();
}
