package io.r2lock;

import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoop;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.epoll.EpollServerSocketChannel;
import io.netty.channel.epoll.EpollSocketChannel;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.util.concurrent.Future;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/**
 * A TCP proxy on loopback that makes a network of it: delay, stall, reset, refusal.
 *
 * <p>Each direction delays what it has read by the same time, in order, however much is under way: a delay, not a
 * bandwidth. It is no cut cable: the kernel goes on answering keepalives for both sides.
 *
 * <p>One event loop does everything, so the state of the connections needs no locks.
 */
@SuppressWarnings("FutureReturnValueIgnored") // a failed write or close shows as the close that it causes
final class TcpProxy implements AutoCloseable {

    private static final boolean EPOLL = Epoll.isAvailable(); // its timers are finer than the 1 ms of NIO

    private final InetSocketAddress target;
    private final MultiThreadIoEventLoopGroup group = new MultiThreadIoEventLoopGroup(
            1,
            (ThreadFactory) task -> new Thread(task, "tcp-proxy"),
            EPOLL ? EpollIoHandler.newFactory() : NioIoHandler.newFactory());
    private final EventLoop loop = group.next();
    private final Set<Direction> directions = ConcurrentHashMap.newKeySet();
    private final AtomicInteger accepted = new AtomicInteger();
    private final AtomicLong forwarded = new AtomicLong();
    private final AtomicLong cutAt = new AtomicLong(Long.MAX_VALUE);
    private volatile long delayNanos;
    private volatile boolean stalled;
    private @Nullable Channel listener;
    private int port;

    private TcpProxy(InetSocketAddress target) {
        this.target = target;
    }

    /** A proxy to the given address, not yet started. */
    static TcpProxy to(String host, int port) {
        return new TcpProxy(new InetSocketAddress(host, port));
    }

    static TcpProxy to(TestServer server) {
        return to(server.host(), server.port());
    }

    /** How long each direction takes; a round trip takes twice as long. Holds for what is read from now on. */
    TcpProxy delay(Duration eachWay) {
        delayNanos = eachWay.toNanos();
        return this;
    }

    /** Listens on a free port. */
    TcpProxy start() {
        accept();
        return this;
    }

    String host() {
        return "127.0.0.1";
    }

    int port() {
        return port;
    }

    /** How many connections have been accepted since the start. */
    int connections() {
        return accepted.get();
    }

    /** How many connections are open. */
    int open() {
        return directions.size() / 2;
    }

    /** Forwards nothing more in either direction, nor that one side has closed; keeps the sockets. */
    void stall() {
        stalled = true;
    }

    /** Forwards what has gathered since {@link #stall()}. */
    void resume() {
        stalled = false;
        await(loop.submit(() -> directions.forEach(Direction::drain)));
    }

    /** Resets all connections, on both sides. */
    void reset() {
        await(loop.submit(() -> directions.forEach(Direction::reset)));
    }

    /** How many bytes have been forwarded since the start, in both directions together. */
    long forwarded() {
        return forwarded.get();
    }

    /**
     * Resets a connection, on both sides, when exactly so many more bytes have been forwarded, in the middle of a segment if
     * need be: the connection whose byte is the first that is too many. Once; may be called from any thread.
     */
    void cutAfter(long bytes) {
        cutAt.set(forwarded.get() + bytes);
    }

    /** Whether what {@link #cutAfter} asked for has happened. */
    boolean hasCut() {
        return cutAt.get() == Long.MAX_VALUE;
    }

    /** Refuses new connections until {@link #accept()}; the open ones stay. */
    synchronized void refuse() {
        if (listener != null) {
            await(listener.close());
            listener = null;
        }
    }

    /** Takes connections again, on the same port. */
    synchronized void accept() {
        if (listener == null) {
            ServerBootstrap bootstrap = new ServerBootstrap()
                    .group(group)
                    .channel(EPOLL ? EpollServerSocketChannel.class : NioServerSocketChannel.class)
                    .option(ChannelOption.SO_REUSEADDR, true)
                    .childOption(ChannelOption.TCP_NODELAY, true)
                    .childOption(ChannelOption.AUTO_READ, false)
                    .childHandler(new ChannelInitializer<>() {
                        @Override
                        protected void initChannel(Channel client) {
                            connect(client);
                        }
                    });
            listener = bootstrap
                    .bind(InetAddress.getLoopbackAddress(), port)
                    .syncUninterruptibly()
                    .channel();
            port = ((InetSocketAddress) listener.localAddress()).getPort();
        }
    }

    @Override
    public void close() {
        refuse();
        reset();
        await(group.shutdownGracefully(0, 5, TimeUnit.SECONDS));
    }

    private void connect(Channel client) {
        accepted.incrementAndGet();
        ChannelFuture connect = new Bootstrap()
                .group(loop)
                .channel(EPOLL ? EpollSocketChannel.class : NioSocketChannel.class)
                .option(ChannelOption.TCP_NODELAY, true)
                .option(ChannelOption.AUTO_READ, false)
                .handler(new ChannelInboundHandlerAdapter())
                .connect(target);
        connect.addListener(connected -> {
            Direction there = new Direction(client, connect.channel());
            Direction back = new Direction(connect.channel(), client);
            if (connected.isSuccess()) {
                there.begin();
                back.begin();
            } else {
                // a server that refuses shows as a reset: the client's handshake was with the proxy
                there.reset();
            }
        });
    }

    private static void reset(Channel channel) {
        if (channel.isOpen()) {
            channel.config().setOption(ChannelOption.SO_LINGER, 0);
            channel.close();
        }
    }

    private static void await(Future<?> done) {
        done.syncUninterruptibly();
    }

    /** What one side sends, on its way to the other; lives on the event loop. */
    private final class Direction extends ChannelInboundHandlerAdapter {

        private final Channel from;
        private final Channel to;
        private final Deque<Segment> underWay = new ArrayDeque<>();

        Direction(Channel from, Channel to) {
            this.from = from;
            this.to = to;
        }

        void begin() {
            directions.add(this);
            from.pipeline().addLast(this);
            from.config().setAutoRead(true);
        }

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) {
            send((ByteBuf) message);
        }

        @Override
        public void channelInactive(ChannelHandlerContext context) {
            send(null);
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            reset();
        }

        private void send(@Nullable ByteBuf bytes) {
            underWay.add(new Segment(System.nanoTime() + delayNanos, bytes));
            if (delayNanos == 0 || underWay.size() == 1) {
                drain();
            }
        }

        void drain() {
            for (Segment first = underWay.peek(); first != null && !stalled; first = underWay.peek()) {
                long early = first.dueNanos - System.nanoTime();
                if (early > 0) {
                    loop.schedule(this::drain, early, TimeUnit.NANOSECONDS);
                    return;
                }
                underWay.remove();
                if (first.bytes == null) {
                    to.close();
                    end();
                } else {
                    forward(first.bytes);
                }
            }
        }

        private void forward(ByteBuf bytes) {
            long left = cutAt.get() - forwarded.get();
            if (bytes.readableBytes() <= left) {
                forwarded.addAndGet(bytes.readableBytes());
                to.writeAndFlush(bytes);
                return;
            }
            cutAt.set(Long.MAX_VALUE);
            int last = (int) Math.max(0, left);
            forwarded.addAndGet(last);
            to.writeAndFlush(bytes.readRetainedSlice(last));
            bytes.release();
            reset();
        }

        void reset() {
            TcpProxy.reset(from);
            TcpProxy.reset(to);
            end();
        }

        private void end() {
            directions.remove(this);
            underWay.forEach(segment -> {
                if (segment.bytes != null) {
                    segment.bytes.release();
                }
            });
            underWay.clear();
        }
    }

    private record Segment(long dueNanos, @Nullable ByteBuf bytes) {}
}
