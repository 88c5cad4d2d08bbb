package io.r2lock.bench;

import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelOption;
import java.time.Duration;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import reactor.netty.Connection;
import reactor.netty.DisposableServer;
import reactor.netty.resources.LoopResources;
import reactor.netty.tcp.TcpClient;
import reactor.netty.tcp.TcpServer;

/** Passes bytes on, each direction later by the same time, so that a round trip takes twice as long more. */
final class DelayProxy implements AutoCloseable {

    private final LoopResources loops = LoopResources.create("proxy", 1, true);
    private final DisposableServer server;

    DelayProxy(String host, int port, Duration eachWay) {
        this.server = TcpServer.create()
                .host("127.0.0.1")
                .port(0)
                .runOn(loops)
                .childOption(ChannelOption.TCP_NODELAY, true)
                .doOnConnection(client -> TcpClient.create()
                        .host(host)
                        .port(port)
                        .runOn(loops)
                        .option(ChannelOption.TCP_NODELAY, true)
                        .connect()
                        .subscribe(upstream -> {
                            pass(client, upstream, eachWay);
                            pass(upstream, client, eachWay);
                        }))
                .bindNow();
    }

    int port() {
        return server.port();
    }

    private static void pass(Connection from, Connection to, Duration delay) {
        Channel target = to.channel();
        ScheduledExecutorService timer = target.eventLoop();
        from.inbound()
                .receive()
                .asByteArray()
                .subscribe(
                        bytes -> {
                            var unused = timer.schedule(
                                    () -> target.writeAndFlush(Unpooled.wrappedBuffer(bytes)),
                                    delay.toNanos(),
                                    TimeUnit.NANOSECONDS);
                        },
                        error -> to.dispose(),
                        to::dispose);
    }

    @Override
    public void close() {
        server.disposeNow();
        loops.disposeLater().block(Duration.ofSeconds(5));
    }
}
