package io.r2lock;

class LockingContractIT extends LockingContract {

    LockingContractIT() {
        super(TestServer.newest(), LockRequest::inTransaction);
    }
}
