package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.test.scheduler.VirtualTimeScheduler;

/** One process's permits, step by step, where a caller stops, a connection is not there, or a try fails. */
class PermitTroubleTest {

    private static final LockKey KEY = LockKey.of(1);
    private static final int LIMIT = 3;

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();
    private final FakeSlots server = new FakeSlots(clock);
    private final PermitGates gates = new PermitGates(server, LIMIT, clock);
    private final Queue<PermitGuest> order = new ConcurrentLinkedQueue<>();

    private PermitGuest guest(int permits) {
        return new PermitGuest(gates, server, order, PermitGuest.waiting(KEY, permits), false);
    }

    private PermitGuest enter(int permits) {
        return guest(permits).enter();
    }

    private PermitGuest holder(int permits) {
        PermitGuest holder = enter(permits);
        server.answerAll();
        assertThat(holder.served).hasValue(1);
        return holder;
    }

    private void end(PermitGuest... holders) {
        for (PermitGuest holder : holders) {
            holder.leave();
            server.answerAll();
            assertThat(holder.ended).hasValue(1);
        }
    }

    @AfterEach
    void nothingIsLeft() {
        assertThat(gates.size()).isZero();
        assertThat(server.held()).isZero();
        assertThat(server.pending()).isZero();
    }

    @Test
    void aStop_isToldWhenNoTryIsLeft_andWhatWasGrantedIsBack() {
        PermitGuest guest = enter(1);
        guest.stop();
        assertThat(guest.left).hasValue(0);
        server.answer();
        assertThat(guest.left).as("granted, and not yet given back").hasValue(0);
        server.answer();
        assertThat(guest.left).hasValue(1);
        assertThat(guest.heldWhenLeft).isZero();
    }

    @Test
    void aTry_belongsToTheNextOneWhenItsCallerStops() {
        PermitGuest stopped = enter(1);
        PermitGuest next = enter(1);
        stopped.stop();
        assertThat(stopped.left).hasValue(1);
        server.answer();
        assertThat(next.served).hasValue(1);
        assertThat(server.tries).hasValue(1);
        end(next);
    }

    @Test
    void aClosedConnection_isOpened_andItsFailureIsToldToAllThatWait() {
        server.disconnect();
        PermitGuest one = enter(2);
        PermitGuest other = enter(2);
        assertThat(server.opens).hasValue(1);
        server.failure = SessionCalls.error("53300");
        server.answerAll();
        assertThat(List.of(one, other))
                .allSatisfy(guest -> assertThat(guest.failures).hasSize(1));

        server.failure = null;
        PermitGuest later = holder(2);
        assertThat(server.opens).hasValue(2);
        end(later);
    }

    @Test
    void aStop_doesNotWaitForAConnection() {
        server.disconnect();
        PermitGuest guest = enter(2);
        guest.stop();
        assertThat(guest.left).hasValue(1);
        server.answerAll();
        assertThat(server.tries).hasValue(0);
    }

    @Test
    void aLostConnection_isReplacedOnceForEach_thenItsErrorIsTold() {
        PermitGuest one = enter(2);
        PermitGuest other = enter(2);
        server.failure = SessionCalls.error("08006");
        server.answer();
        server.answer();
        assertThat(one.told() + other.told()).isZero();
        server.answerAll();
        assertThat(List.of(one, other))
                .allSatisfy(guest -> assertThat(guest.failures).hasSize(1));
    }

    @Test
    void anErrorOfOneTry_isToldToOne() {
        PermitGuest one = enter(2);
        PermitGuest other = enter(2);
        server.failure = SessionCalls.error("53200");
        server.answer();
        server.failure = null;
        server.answerAll();
        assertThat(one.failures).hasSize(1);
        assertThat(other.served).hasValue(1);
        end(other);
    }

    @Test
    void aLostSlot_isNotHandedOver() {
        PermitGuest holder = holder(1);
        PermitGuest next = enter(1);
        Objects.requireNonNull(holder.caller.lock).markLost("as the test says");
        holder.leave();
        assertThat(next.served).hasValue(0);
        server.answerAll();
        assertThat(next.served).hasValue(1);
        end(next);
    }
}
