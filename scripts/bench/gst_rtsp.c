// gst_rtsp PUBLISH_PORT PLAY_PORT: gst-rtsp-server as a live server. Takes /live/load by ANNOUNCE and RECORD on the one port and gives it
// to players on the other, all of them from one shared pipeline. Between the two the packets go over loopback.
#include <gst/rtsp-server/rtsp-server.h>

#define VIDEO "port=25004 caps=\"application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96\""
#define AUDIO                                                                                                     \
    "port=25006 caps=\"application/x-rtp,media=audio,clock-rate=44100,encoding-name=MPEG4-GENERIC,payload=97,"    \
    "encoding-params=(string)2,mode=(string)AAC-hbr,config=(string)1210,sizelength=(string)13,"                   \
    "indexlength=(string)3,indexdeltalength=(string)3\""

static GstRTSPServer *serve(const char *port, const char *launch, GstRTSPTransportMode mode) {
    GstRTSPServer *server = gst_rtsp_server_new();
    GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
    GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
    gst_rtsp_server_set_address(server, "127.0.0.1");
    gst_rtsp_server_set_service(server, port);
    gst_rtsp_media_factory_set_launch(factory, launch);
    gst_rtsp_media_factory_set_transport_mode(factory, mode);
    gst_rtsp_media_factory_set_latency(factory, 0);
    gst_rtsp_media_factory_set_shared(factory, mode == GST_RTSP_TRANSPORT_MODE_PLAY);
    gst_rtsp_mount_points_add_factory(mounts, "/live/load", factory);
    g_object_unref(mounts);
    return gst_rtsp_server_attach(server, NULL) ? server : NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        g_printerr("gst_rtsp PUBLISH_PORT PLAY_PORT\n");
        return 2;
    }
    gst_init(NULL, NULL);
    const char *record =
        "( rtph264depay name=depay0 ! rtph264pay pt=96 config-interval=-1 ! udpsink host=127.0.0.1 port=25004 sync=false async=false "
        "rtpmp4gdepay name=depay1 ! rtpmp4gpay pt=97 ! udpsink host=127.0.0.1 port=25006 sync=false async=false )";
    const char *play =
        "( udpsrc address=127.0.0.1 " VIDEO " ! rtph264depay ! rtph264pay name=pay0 pt=96 config-interval=-1 "
        "udpsrc address=127.0.0.1 " AUDIO " ! rtpmp4gdepay ! rtpmp4gpay name=pay1 pt=97 )";
    if (!serve(argv[1], record, GST_RTSP_TRANSPORT_MODE_RECORD) || !serve(argv[2], play, GST_RTSP_TRANSPORT_MODE_PLAY)) {
        g_printerr("the ports are taken\n");
        return 1;
    }
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
}
