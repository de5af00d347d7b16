import faiss
import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Training small indexes is slower with threads that wait for one another."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)
