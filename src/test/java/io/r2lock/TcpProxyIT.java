package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.DataInputStream;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Against a server that sends every byte back. */
class TcpProxyIT {

    private final ServerSocket echo;
    private final TcpProxy proxy;

    TcpProxyIT() throws IOException {
        echo = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        proxy = TcpProxy.to("127.0.0.1", echo.getLocalPort());
    }

    @BeforeEach
    void serve() {
        Thread server = new Thread(() -> {
            try (Socket socket = echo.accept()) {
                socket.setTcpNoDelay(true);
                socket.getInputStream().transferTo(socket.getOutputStream());
            } catch (IOException e) {
                // the test has ended, or has reset the connection
                assertThat(e).isInstanceOf(SocketException.class);
            }
        });
        server.setDaemon(true);
        server.start();
        proxy.start();
    }

    @AfterEach
    void close() throws IOException {
        proxy.close();
        echo.close();
    }

    @Test
    void delay_fiftyMillisEachWay_makesARoundTripOfAHundred() throws IOException {
        proxy.delay(Duration.ofMillis(50));
        try (Socket client = connect()) {
            roundTrip(client, 1); // warms up
            long fastest = Long.MAX_VALUE;
            for (int i = 0; i < 5; i++) {
                long micros = roundTrip(client, 1);
                assertThat(micros).isGreaterThanOrEqualTo(100_000);
                fastest = Math.min(fastest, micros);
            }
            assertThat(fastest).isLessThan(103_000);
        }
    }

    @Test
    void delay_manySegmentsUnderWay_keepOrderAndShareTheDelay() throws IOException {
        proxy.delay(Duration.ofMillis(50));
        try (Socket client = connect()) {
            roundTrip(client, 1);
            assertThat(roundTrip(client, 200)).isBetween(100_000L, 300_000L);
        }
    }

    @Test
    void stall_forwardsNothing_untilResume() throws IOException {
        try (Socket client = connect()) {
            roundTrip(client, 1);
            proxy.stall();
            client.getOutputStream().write(7);
            client.setSoTimeout(50);
            assertThatThrownBy(() -> client.getInputStream().read()).isInstanceOf(SocketTimeoutException.class);

            proxy.resume();
            client.setSoTimeout(5_000);
            assertThat(client.getInputStream().read()).isEqualTo(7);
        }
    }

    @Test
    void reset_isSeenAsAReset() throws IOException {
        try (Socket client = connect()) {
            roundTrip(client, 1);
            proxy.reset();
            assertThatThrownBy(() -> client.getInputStream().read())
                    .isInstanceOf(SocketException.class)
                    .hasMessageContaining("reset");
            assertThat(proxy.open()).isZero();
        }
    }

    @Test
    void cutAfter_forwardsExactlySoManyBytes_ofASegment() throws IOException {
        try (Socket client = connect()) {
            roundTrip(client, 1);
            proxy.cutAfter(10 + 4);
            client.getOutputStream().write(new byte[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
            DataInputStream in = new DataInputStream(client.getInputStream());
            byte[] back = new byte[4];
            in.readFully(back);
            assertThat(back).containsExactly(0, 1, 2, 3);
            assertThatThrownBy(in::read).isInstanceOf(SocketException.class).hasMessageContaining("reset");
            assertThat(proxy.hasCut()).isTrue();
            assertThat(proxy.forwarded()).isEqualTo(2 + 14);
            assertThat(proxy.open()).isZero();
        }
    }

    @Test
    void refuse_keepsOpenConnections_andAcceptTakesNewOnesAtTheSamePort() throws IOException {
        int port = proxy.port();
        try (Socket client = connect()) {
            roundTrip(client, 1);
            proxy.refuse();
            assertThatThrownBy(this::connect).isInstanceOf(ConnectException.class);
            roundTrip(client, 1);
            assertThat(proxy.connections()).isEqualTo(1);
            assertThat(proxy.open()).isEqualTo(1);
            proxy.accept();
            assertThat(proxy.port()).isEqualTo(port);
        }
        connect().close();
    }

    @Test
    void end_ofTheServer_reachesTheClientInOrder() throws IOException {
        proxy.delay(Duration.ofMillis(20));
        try (Socket client = connect()) {
            client.getOutputStream().write(3);
            assertThat(client.getInputStream().read()).isEqualTo(3);
            client.shutdownOutput(); // the echo ends, and closes
            assertThat(client.getInputStream().read()).isEqualTo(-1);
        }
    }

    private Socket connect() throws IOException {
        Socket socket = new Socket(proxy.host(), proxy.port());
        socket.setTcpNoDelay(true);
        socket.setSoTimeout(5_000);
        return socket;
    }

    private static long roundTrip(Socket client, int bytes) throws IOException {
        DataInputStream in = new DataInputStream(client.getInputStream());
        long start = System.nanoTime();
        for (int i = 0; i < bytes; i++) {
            client.getOutputStream().write(i);
        }
        for (int i = 0; i < bytes; i++) {
            assertThat(in.readByte()).isEqualTo((byte) i);
        }
        return TimeUnit.NANOSECONDS.toMicros(System.nanoTime() - start);
    }
}
