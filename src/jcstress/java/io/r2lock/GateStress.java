package io.r2lock;

import org.openjdk.jcstress.annotations.Actor;
import org.openjdk.jcstress.annotations.Arbiter;
import org.openjdk.jcstress.annotations.Expect;
import org.openjdk.jcstress.annotations.JCStressTest;
import org.openjdk.jcstress.annotations.Outcome;
import org.openjdk.jcstress.annotations.State;
import org.openjdk.jcstress.infra.results.II_Result;

/** One gate and two of its users, on real cores. The results are the turns of the waiter, and the gates that are left. */
public class GateStress {

    private static final LockKey KEY = LockKey.of(1);

    /** A gate with somebody inside. */
    abstract static class Held {

        final KeyGates gates = new KeyGates();
        final Waiter holder = Waiter.forServer(KEY, LockMode.EXCLUSIVE, turn -> {});
        final Waiter waiter = Waiter.forServer(KEY, LockMode.EXCLUSIVE, turn -> haveTurn());
        volatile int turns;

        Held() {
            gates.enter(holder);
        }

        @SuppressWarnings("NonAtomicOperationOnVolatileField") // two turns at once would show as one left over gate
        final void haveTurn() {
            turns++;
        }
    }

    /** The holder leaves while the waiter gives up. */
    @JCStressTest
    @Outcome(id = "0, 0", expect = Expect.ACCEPTABLE, desc = "gave up first")
    @Outcome(id = "1, 0", expect = Expect.ACCEPTABLE, desc = "had its turn, then left")
    @Outcome(expect = Expect.FORBIDDEN, desc = "two turns, or a gate that nobody will ever remove")
    @State
    public static class GrantOrCancel extends Held {

        public GrantOrCancel() {
            gates.enter(waiter);
        }

        @Actor
        public void leave() {
            gates.leave(holder);
        }

        @Actor
        public void cancel() {
            gates.leave(waiter);
        }

        @Arbiter
        public void look(II_Result result) {
            result.r1 = turns;
            result.r2 = gates.size();
        }
    }

    /** The holder leaves while the waiter comes. */
    @JCStressTest
    @Outcome(id = "1, 1", expect = Expect.ACCEPTABLE, desc = "inside, at once or by its turn")
    @Outcome(expect = Expect.FORBIDDEN, desc = "forgotten, or let in twice")
    @State
    public static class GrantOrEnter extends Held {

        @Actor
        public void leave() {
            gates.leave(holder);
        }

        @Actor
        public void enter() {
            if (gates.enter(waiter)) {
                haveTurn();
            }
        }

        @Arbiter
        public void look(II_Result result) {
            result.r1 = turns;
            result.r2 = gates.size();
        }
    }
}
