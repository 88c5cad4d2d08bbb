package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.spi.R2dbcDataIntegrityViolationException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.test.util.RaceTestUtils;

/** What may meet a connection that passes on from one hold to the next, each pair raced in both orders. */
class HandOffRaceTest {

    private static final int ROUNDS = 10_000;

    /** Of rounds that open connections or clients. */
    private static final int FEWER_ROUNDS = 2_000;

    private static final Duration SOON = Duration.ofSeconds(10);
    private static final LockKey KEY = LockKey.of(1);

    private final FakeBackend.Servers servers = new FakeBackend.Servers();
    private DefaultAdvisoryLocks client = client();

    private DefaultAdvisoryLocks client() {
        return FakeConnection.client(generation -> Mono.fromSupplier(() -> servers.open(generation)), 3);
    }

    @AfterEach
    void close() {
        client.close().block(SOON);
    }

    /** One who waits for the key, and may be cancelled; whoever has the hold ends it. */
    private static final class Caller {

        private final CompletableFuture<HeldLock> hold = new CompletableFuture<>();
        private final AtomicInteger told = new AtomicInteger();
        private final AtomicReference<@Nullable Throwable> error = new AtomicReference<>();
        private final Disposable call;

        Caller(DefaultAdvisoryLocks client) {
            call = client.exclusive(KEY).acquire().subscribe(this::granted, this::failed);
        }

        private void granted(HeldLock granted) {
            told.incrementAndGet();
            hold.complete(granted);
        }

        private void failed(Throwable failure) {
            told.incrementAndGet();
            error.set(failure);
            hold.completeExceptionally(failure);
        }

        void cancel() {
            call.dispose();
        }

        HeldLock get() {
            return hold.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
        }

        /** What a cancel came too late for. */
        void endIfGranted() {
            if (hold.isDone() && !hold.isCompletedExceptionally()) {
                hold.join().release().block(SOON);
            }
        }
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private boolean isAllBack() {
        return client.live() == 0
                && client.connections().demand() == 0
                && client.connections().acquired() == 0;
    }

    private void assertAllBack() {
        if (!isAllBack()) {
            Await.until("the end of all", this::isAllBack);
        }
        assertThat(servers.endsHit).as("COMMITs that a CancelRequest hit").hasValue(0);
        assertThat(client.gates().size()).isZero();
        assertThat(client.waiting()).isZero();
        assertThat(client.connections().acquired()).isZero();
        assertThat(client.connections().settled()).isZero();
        assertThat(client.connections().serverWaits()).isZero();
        assertThat(servers.unanswered()).isZero();
    }

    private AtomicReference<Object> commit(HeldLock hold) {
        AtomicReference<Object> outcome = new AtomicReference<>("none");
        commit(hold, outcome);
        return outcome;
    }

    private void commit(HeldLock hold, AtomicReference<Object> outcome) {
        hold.commit().subscribe(nothing -> {}, outcome::set, () -> outcome.set("committed"));
    }

    @Test
    void theEnd_racesACancelOfTheNext() {
        for (int i = 0; i < ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            AtomicReference<Object> outcome = new AtomicReference<>("none");
            race(i, () -> commit(first, outcome), next::cancel);
            next.endIfGranted();
            last.get().commit().block(SOON);
            next.endIfGranted();
            assertThat(outcome).hasValue("committed");
            assertThat(next.error.get()).isNull();
            assertAllBack();
        }
        assertThat(servers.opened()).as("reused").isLessThanOrEqualTo(3);
    }

    @Test
    void theCommitsAnswer_racesACancelOfTheNext() {
        for (int i = 0; i < ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            servers.holdEnds();
            AtomicReference<Object> outcome = commit(first);
            assertThat(servers.unanswered())
                    .as("COMMIT, and the next one's lock behind it")
                    .isEqualTo(2);
            race(i, servers::answerEnds, next::cancel);
            next.endIfGranted();
            last.get().commit().block(SOON);
            assertThat(outcome).hasValue("committed");
            assertAllBack();
        }
    }

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
    void rollback_racesACancelOfTheNext() {
        for (int i = 0; i < ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            servers.holdEnds();
            first.release().subscribe();
            assertThat(servers.unanswered()).isEqualTo(2);
            race(i, servers::answerEnds, next::cancel);
            next.endIfGranted();
            last.get().release().block(SOON);
            assertAllBack();
        }
    }

    @Test
    void aRefusedCommit_racesACancelOfTheNext() {
        R2dbcDataIntegrityViolationException refused = new R2dbcDataIntegrityViolationException("refused", "23503");
        for (int i = 0; i < ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            servers.holdEnds();
            servers.commitFails(refused);
            AtomicReference<Object> outcome = commit(first);
            race(i, servers::answerEnds, next::cancel);
            servers.commitFails(null);
            next.endIfGranted();
            last.get().commit().block(SOON);
            assertThat(outcome).hasValue(refused);
            assertAllBack();
        }
        assertThat(servers.opened()).as("the connection is as good as before").isLessThanOrEqualTo(3);
    }

    @Test
    void aBreakOfTheConnection_racesTheEnd_theNextOneIsServedByAFreshOne() {
        List<Object> outcomes = new ArrayList<>();
        for (int i = 0; i < FEWER_ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            AtomicReference<Object> outcome = new AtomicReference<>("none");
            race(i, () -> commit(first, outcome), servers::breakThoseInUse);
            next.get().commit().onErrorComplete().block(SOON);
            Object told = outcome.get();
            assertThat(told)
                    .satisfiesAnyOf(
                            done -> assertThat(done).isEqualTo("committed"),
                            lost -> assertThat(lost).isInstanceOf(LockLostException.class),
                            unknown -> assertThat(unknown).isInstanceOf(CommitOutcomeUnknownException.class));
            outcomes.add(told);
            assertAllBack();
        }
        assertThat(outcomes).contains("committed");
    }

    @Test
    void aBreakDuringTheCommit_isUnknownToTheFirst_andNothingToTheNext() {
        for (int i = 0; i < FEWER_ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            servers.holdEnds();
            AtomicReference<Object> outcome = commit(first);
            race(i, servers::breakThoseInUse, next::cancel);
            servers.answerEnds();
            assertThat(outcome.get()).isInstanceOf(CommitOutcomeUnknownException.class);
            next.endIfGranted();
            if (i % 2 == 0) {
                Await.until("told, or cancelled", () -> next.hold.isDone() || last.hold.isDone());
            }
            next.endIfGranted();
            last.get().commit().block(SOON);
            assertThat(next.error.get()).isNull();
            next.endIfGranted();
            assertAllBack();
        }
    }

    @Test
    void close_racesTheEnd() {
        for (int i = 0; i < FEWER_ROUNDS; i++) {
            DefaultAdvisoryLocks closing = client;
            HeldLock first = new Caller(closing).get();
            Caller next = new Caller(closing);
            if (i % 4 < 2) {
                servers.holdEnds();
            }
            AtomicReference<Object> outcome = new AtomicReference<>("none");
            CompletableFuture<Void> closed = new CompletableFuture<>();
            race(
                    i,
                    () -> commit(first, outcome),
                    () -> closing.close()
                            .subscribe(nothing -> {}, closed::completeExceptionally, () -> closed.complete(null)));
            servers.answerEnds();
            assertThat(outcome).hasValue("committed");
            next.endIfGranted();
            closed.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
            assertThat(next.told).as("a hold, or that it is closed").hasValue(1);
            assertAllBack();
            client = client();
        }
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
