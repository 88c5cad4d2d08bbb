package io.r2lock;

class OldestLockingContractIT extends LockingContract {

    OldestLockingContractIT() {
        super(TestServer.oldest(), LockRequest::inTransaction);
    }
}
