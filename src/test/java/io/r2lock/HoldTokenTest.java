package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.test.util.RaceTestUtils;

/** When a token is asked for, and whose it is; step by step, without a server. */
class HoldTokenTest {

    private static final int ROUNDS = 10_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();

    private final List<FakeCaller> callers = new ArrayList<>();

    @AfterEach
    void close() {
        callers.forEach(FakeCaller::release);
        client.sessions.forEach(FakeSession::answerAll);
        client.close();
    }

    private FakeCaller acquire(LockRequest request) {
        FakeCaller caller = client.acquire(request);
        callers.add(caller);
        return caller;
    }

    private FakeCaller acquire() {
        return acquire(client.locks.exclusive(FakeClient.KEY));
    }

    private static CompletableFuture<FencingToken> token(HeldLock hold) {
        return hold.fencingToken().toFuture().orTimeout(20, TimeUnit.SECONDS);
    }

    /** A hold on a session that answers when it is told to. */
    private FakeCaller held() {
        client.answersAtOnce = false;
        FakeSession server = client.open();
        FakeCaller caller = acquire();
        server.answerAll();
        server.messages.clear();
        return caller;
    }

    @Test
    void itIsAskedForOnce_whenSomebodyWantsIt() {
        HeldLock hold = held().hold();
        FakeSession server = client.newest();
        var token = hold.fencingToken();
        assertThat(server.messages).isEmpty();
        Disposable first = token.subscribe();
        CompletableFuture<FencingToken> second = token.toFuture();
        first.dispose();
        assertThat(server.messages).containsExactly(LockSql.TOKEN);
        server.answer();
        assertThat(second).isCompleted();
        assertThat(token(hold)).isCompletedWithValue(second.join());
        assertThat(server.messages).hasSize(1);
    }

    @Test
    void anError_isThatOfTheToken_andOfNothingElse() {
        HeldLock hold = held().hold();
        FakeSession server = client.newest();
        server.failures = number -> number == 0 ? new FakeSession.Failure(0, SessionCalls.error("55000")) : null;
        CompletableFuture<FencingToken> first = token(hold);
        server.answer();
        assertThatThrownBy(first::join)
                .hasCauseInstanceOf(LockServerException.class)
                .hasMessageContaining("No fencing token for the exclusive lock on")
                .hasMessageContaining("55000");
        CompletableFuture<FencingToken> again = token(hold);
        server.answerAll();
        assertThat(again.join().asLong()).isPositive();
        assertThat(((SessionHold) hold).isLive()).isTrue();
        assertThat(server.messages).as("no reconciliation").containsOnly(LockSql.TOKEN);
    }

    @Test
    void aConnectionThatBreaks_isALoss() {
        HeldLock hold = held().hold();
        CompletableFuture<FencingToken> token = token(hold);
        client.newest().breaks(SessionCalls.error("57P01"));
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        assertThatThrownBy(token::join).hasCauseInstanceOf(LockLostException.class);
    }

    @Test
    void anErrorAfterTheEnd_isTheEnd() {
        FakeCaller caller = held();
        FakeSession server = client.newest();
        server.failures = number -> number == 0 ? new FakeSession.Failure(0, SessionCalls.error("57014")) : null;
        CompletableFuture<FencingToken> late = token(caller.hold());
        caller.release();
        server.answerAll();
        assertThatThrownBy(late::join)
                .hasCauseInstanceOf(LockLostException.class)
                .hasMessageContaining("gets no fencing token");
    }

    @Test
    void whoHasHandedTheLockOn_getsNoToken_thoughTheIdIsThere() {
        FakeCaller old = held();
        FakeSession server = client.newest();
        FakeCaller heir = acquire();
        CompletableFuture<FencingToken> late = token(old.hold());
        old.release();
        heir.assertToldOnce();
        CompletableFuture<FencingToken> next = token(heir.hold());
        server.answerAll();
        assertThatThrownBy(late::join)
                .hasCauseInstanceOf(LockLostException.class)
                .hasMessageContaining("gets no fencing token");
        assertThat(next).isCompleted();
    }

    @Test
    void holdsMayShareAMessage_butNotOneOfThemThatHasEnded() {
        FakeCaller old = held();
        FakeSession server = client.newest();
        LockKey other = LockKey.of(2);
        FakeCaller busy = acquire(client.locks.exclusive(other));
        server.answerAll();
        FakeCaller heir = acquire();
        CompletableFuture<FencingToken> underWay = token(busy.hold());
        CompletableFuture<FencingToken> late = token(old.hold());
        old.release();
        heir.assertToldOnce();
        CompletableFuture<FencingToken> next = token(heir.hold());
        int before = server.messages.size();
        server.answerAll();
        assertThat(server.messages).as("one for both").hasSize(before + 1);
        assertThat(late).isCompletedExceptionally();
        assertThat(next.join()).isGreaterThan(underWay.join());
    }

    @Test
    void aDurableOne_isAMessageOfItsOwn() {
        FakeCaller plain = held();
        FakeSession server = client.newest();
        FakeCaller durable = acquire(client.locks.exclusive(LockKey.of(2)).durableTokens());
        FakeCaller third = acquire(client.locks.exclusive(LockKey.of(3)));
        server.answerAll();
        server.messages.clear();
        List<CompletableFuture<FencingToken>> tokens =
                List.of(token(plain.hold()), token(durable.hold()), token(third.hold()));
        server.answerAll();
        assertThat(tokens).allMatch(CompletableFuture::isDone);
        assertThat(server.messages).containsExactly(LockSql.TOKEN, SessionSql.DURABLE_TOKEN, LockSql.TOKEN);
    }

    @Test
    void onSeveralSessions_allAreAsked_andTheSmallestIdIsTaken() {
        FakeClient wide = new FakeClient(3);
        try {
            LockKey[] keys = LongStream.range(0, 12).mapToObj(LockKey::of).toArray(LockKey[]::new);
            FakeCaller caller = wide.acquire(wide.locks.exclusive(List.of(keys)));
            caller.assertToldOnce();
            assertThat(wide.sessions).hasSize(3);
            wide.sessions.forEach(session -> session.messages.clear());
            FencingToken probe = token(caller.hold()).join();
            assertThat(wide.sessions).allMatch(session -> session.messages.equals(List.of(LockSql.TOKEN)));
            FakeCaller last = wide.acquire(wide.locks.exclusive(LockKey.of(100)));
            FencingToken later = token(last.hold()).join();
            last.release();
            assertThat(later.asLong() - probe.asLong())
                    .as("ids since the smallest")
                    .isEqualTo(3);
            FencingToken same = token(caller.hold()).join();
            assertThat(same).isEqualTo(probe);
            caller.release();
        } finally {
            wide.close();
        }
    }

    @Test
    void onSeveralSessions_oneErrorIsTheTokens() {
        FakeClient wide = new FakeClient(3);
        try {
            FakeCaller caller = wide.acquire(wide.locks.exclusive(
                    LongStream.range(0, 12).mapToObj(LockKey::of).toList()));
            caller.assertToldOnce();
            int next = wide.newest().messages.size();
            wide.newest().failures =
                    number -> number == next ? new FakeSession.Failure(0, SessionCalls.error("55000")) : null;
            assertThatThrownBy(() -> token(caller.hold()).join()).hasCauseInstanceOf(LockServerException.class);
            assertThat(token(caller.hold())).isCompleted();
            caller.release();
        } finally {
            wide.close();
        }
    }

    @Test
    void aTokenThatIsToldLate_isSmallerThanTheHeirs() {
        client.open();
        int told = 0;
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller old = client.acquire();
            FakeCaller heir = client.acquire();
            HeldLock first = old.hold();
            CompletableFuture<FencingToken> late = new CompletableFuture<>();
            CompletableFuture<FencingToken> next = new CompletableFuture<>();
            Runnable asks = () -> first.fencingToken().subscribe(late::complete, late::completeExceptionally);
            Runnable handsOn = () -> {
                old.release();
                heir.assertToldOnce();
                heir.hold().fencingToken().subscribe(next::complete, next::completeExceptionally);
            };
            if (i % 2 == 0) {
                RaceTestUtils.race(asks, handsOn);
            } else {
                RaceTestUtils.race(handsOn, asks);
            }
            FakeClient.until("both answers", () -> late.isDone() && next.isDone());
            if (!late.isCompletedExceptionally()) {
                told++;
                assertThat(late.join()).isLessThan(next.join());
            }
            heir.release();
            client.assertRest();
        }
        assertThat(told).isBetween(1, ROUNDS - 1);
    }
}
