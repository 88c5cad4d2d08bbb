package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;

/** Until the COMMIT is answered, the connection is that of the hold which ends. */
class HandOffTest extends HandOffCallers {

    @Test
    void cancelBeforeTheCommitsAnswer_waitsForThat() {
        HeldLock first = new Caller(client).get();
        Caller next = new Caller(client);
        Caller last = new Caller(client);
        servers.holdEnds();
        AtomicReference<Object> outcome = commit(first);
        next.cancel();
        assertThat(servers.cancelRequests).hasValue(0);
        assertThat(client.connections().acquired())
                .as("nobody else has it meanwhile")
                .isEqualTo(1);
        assertThat(last.told).hasValue(0);
        servers.answerEnds();
        assertThat(outcome).hasValue("committed");
        assertThat(next.told).hasValue(0);
        last.get().commit().block(SOON);
        assertAllBack();
    }

    @Test
    void slowCommit_keepsItsOwnDeadline_whenTheNextOneIsCancelled() {
        HeldLock first = new Caller(client).get();
        Caller next = new Caller(client);
        servers.holdEnds();
        AtomicReference<Object> outcome = commit(first);
        next.cancel();
        long now = client.now();
        client.connections().closeOverdue(now + TimeUnit.SECONDS.toNanos(LockConnection.COMMIT_DEADLINE_SECONDS - 5));
        assertThat(outcome).hasValue("none");
        servers.answerEnds();
        assertThat(outcome).hasValue("committed");
        assertAllBack();
    }

    /** The wait of the next one is closed by it, but not before the connection is its own. */
    @Test
    void silenceOfTheHeartbeat_doesNotCloseTheConnectionUnderACommit() {
        HeldLock first = new Caller(client).get();
        Caller next = new Caller(client);
        servers.holdEnds();
        AtomicReference<Object> outcome = commit(first);
        client.connections()
                .open()
                .forEach(connection ->
                        Objects.requireNonNull(connection.holder()).lose("silence"));
        assertThat(outcome).hasValue("none");
        servers.answerEnds();
        assertThat(outcome).hasValue("committed");
        next.get().commit().block(SOON);
        assertAllBack();
    }

    @Test
    void overdueCommit_isUnknown_andTheNextOneIsServedByAFreshConnection() {
        HeldLock first = new Caller(client).get();
        Caller next = new Caller(client);
        servers.holdEnds();
        AtomicReference<Object> outcome = commit(first);
        long now = client.now();
        client.connections().closeOverdue(now + TimeUnit.SECONDS.toNanos(LockConnection.COMMIT_DEADLINE_SECONDS + 5));
        assertThat(outcome.get()).isInstanceOf(CommitOutcomeUnknownException.class);
        servers.answerEnds();
        next.get().commit().block(SOON);
        assertThat(servers.opened()).isEqualTo(2);
        assertAllBack();
    }

    /** Two of the three connections are held; a caller of another key waits for the one that a crowd passes on. */
    @Test
    void aRow_isAsLongAsTheLimit_thenOthersHaveTheConnection() {
        int limit = client.options().handOffLimit();
        List<HeldLock> held = new ArrayList<>();
        for (long key = 2; key < 4; key++) {
            held.add(Objects.requireNonNull(
                    client.exclusive(LockKey.of(key)).acquire().block(SOON)));
        }
        AtomicInteger served = new AtomicInteger();
        HeldLock first = new Caller(client).get();
        for (int i = 0; i < 3 * limit; i++) {
            client.exclusive(KEY)
                    .guard(Mono.fromSupplier(served::incrementAndGet))
                    .subscribe();
        }
        CompletableFuture<Integer> servedBefore = client.exclusive(LockKey.of(4))
                .guard(Mono.fromSupplier(served::get))
                .toFuture();
        first.commit().block(SOON);
        assertThat(servedBefore).succeedsWithin(SOON).isEqualTo(limit);
        Await.until("all served", () -> served.get() == 3 * limit);
        held.forEach(hold -> hold.release().block(SOON));
        assertAllBack();
        assertThat(servers.opened()).isEqualTo(3);
    }
}
