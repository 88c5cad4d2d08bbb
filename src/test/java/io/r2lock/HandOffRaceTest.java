package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.spi.R2dbcDataIntegrityViolationException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import reactor.test.util.RaceTestUtils;

/** What may meet a connection that passes on from one hold to the next, each pair raced in both orders. */
class HandOffRaceTest extends HandOffCallers {

    private static final int ROUNDS = 10_000;

    /** Of rounds that open connections or clients. */
    private static final int FEWER_ROUNDS = 2_000;

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    @Test
    void theEnd_racesACancelOfTheNext() {
        for (int i = 0; i < ROUNDS; i++) {
            HeldLock first = new Caller(client).get();
            Caller next = new Caller(client);
            Caller last = new Caller(client);
            CompletableFuture<Object> outcome = new CompletableFuture<>();
            race(i, () -> commit(first, outcome), next::cancel);
            next.endWhenGranted();
            last.get().commit().block(SOON);
            assertThat(outcome).succeedsWithin(SOON).isEqualTo("committed");
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
            CompletableFuture<Object> outcome = commit(first);
            assertThat(servers.unanswered())
                    .as("COMMIT, and the next one's lock behind it")
                    .isEqualTo(2);
            race(i, servers::answerEnds, next::cancel);
            next.endWhenGranted();
            last.get().commit().block(SOON);
            assertThat(outcome).succeedsWithin(SOON).isEqualTo("committed");
            assertAllBack();
        }
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
            next.endWhenGranted();
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
            CompletableFuture<Object> outcome = commit(first);
            race(i, servers::answerEnds, next::cancel);
            servers.commitFails(null);
            next.endWhenGranted();
            last.get().commit().block(SOON);
            assertThat(outcome).succeedsWithin(SOON).isEqualTo(refused);
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
            CompletableFuture<Object> outcome = new CompletableFuture<>();
            race(i, () -> commit(first, outcome), servers::breakThoseInUse);
            next.get().commit().onErrorComplete().block(SOON);
            Object told = outcome.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
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
            CompletableFuture<Object> outcome = commit(first);
            race(i, servers::breakThoseInUse, next::cancel);
            servers.answerEnds();
            assertThat(outcome).succeedsWithin(SOON).isInstanceOf(CommitOutcomeUnknownException.class);
            next.endWhenGranted();
            last.get().commit().block(SOON);
            assertThat(next.error.get()).isNull();
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
            CompletableFuture<Object> outcome = new CompletableFuture<>();
            CompletableFuture<Void> closed = new CompletableFuture<>();
            race(
                    i,
                    () -> commit(first, outcome),
                    () -> closing.close()
                            .subscribe(nothing -> {}, closed::completeExceptionally, () -> closed.complete(null)));
            servers.answerEnds();
            assertThat(outcome).succeedsWithin(SOON).isEqualTo("committed");
            next.endWhenGranted();
            closed.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
            // the client may be closed an instant before the last caller hears of it
            Await.until("a hold, or that it is closed", () -> next.told.get() > 0);
            assertThat(next.told).hasValue(1);
            assertAllBack();
            client = client();
        }
    }
}
