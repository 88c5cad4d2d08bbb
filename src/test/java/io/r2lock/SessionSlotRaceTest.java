package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.test.util.RaceTestUtils;

/** One place, at most one connection: whoever needs it finds the same one, and none is opened that nobody knows of. */
class SessionSlotRaceTest {

    private static final int ROUNDS = 10_000;

    private final FakeClient client = new FakeClient();

    @AfterEach
    void close() {
        client.close();
    }

    /** As one who has looked, and saw none, which may be over by now. */
    private CompletableFuture<SessionBackend> need() {
        return client.slot().opened().toFuture();
    }

    private void ask() {
        client.slot().opened().subscribe();
    }

    private void assertOneIsOpen() {
        assertThat(client.sessions.stream().filter(session -> session.closes.get() == 0))
                .hasSize(1);
        assertThat(client.slot().open()).isNotNull();
        FakeSession last = client.newest();
        client.sessions.removeIf(session -> session != last);
    }

    /** Some come while the connection is opened, some just after that. */
    @Test
    void manyNeedIt_oneIsOpened() {
        Runnable[] many = Stream.<Runnable>generate(() -> this::ask).limit(4).toArray(Runnable[]::new);
        for (int i = 0; i < ROUNDS; i++) {
            ask();
            RaceTestUtils.race(many);
            need().join();
            FakeClient.until("an open one", () -> client.slot().open() != null);
            assertOneIsOpen();
            Objects.requireNonNull(client.slot().open()).close().subscribe();
            assertThat(client.slot().open()).isNull();
        }
    }

    @Test
    void endOfTheOne_againstTheOpeningOfItsSuccessor() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = client.open();
            RaceTestUtils.race(() -> server.breaks(SessionCalls.error("08006")), this::ask, this::ask);
            FakeClient.until("end", () -> server.closes.get() == 1);
            need().join();
            assertOneIsOpen();
        }
    }

    @Test
    void endOfTheOne_againstItsOwnOpening() {
        for (int i = 0; i < ROUNDS; i++) {
            CompletableFuture<SessionBackend> opened = need();
            FakeClient.until("a session", () -> !client.sessions.isEmpty());
            FakeSession server = client.newest();
            server.breaks(SessionCalls.error("08006"));
            opened.join();
            FakeClient.until("end", () -> client.slot().open() == null);
            need().join();
            assertOneIsOpen();
            client.newest().breaks(SessionCalls.error("08006"));
            client.sessions.clear();
        }
    }
}
