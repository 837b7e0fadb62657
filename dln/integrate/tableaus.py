"""Coefficients of the Runge-Kutta and Rosenbrock methods, in the form in which they were published.

Each is checked in the tests: rows of A sum to c, the order conditions hold, the observed order is the stated one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class RungeKutta:
    """An explicit pair: weights `A`, `b`, nodes `c`, and two embedded error weights (stages + the new derivative)."""

    order: int
    A: np.ndarray
    b: np.ndarray
    c: np.ndarray
    error_high: np.ndarray
    error_low: np.ndarray


@dataclass(frozen=True)
class Rosenbrock:
    """A Rosenbrock method in the transformed form of Hairer & Wanner (Solving ODEs II, IV.7).

    Stage i solves ``(I/(h gamma) - J) k_i = f(z + sum_j A_ij k_j) + sum_j (C_ij/h) k_j``; then
    ``z_new = z + sum_i m_i k_i`` with error estimate ``sum_i e_i k_i`` one order lower.  `stiff_error` says whether that
    estimate tends to 0 for infinitely stiff components.
    """

    order: int
    A: np.ndarray
    C: np.ndarray
    m: np.ndarray
    e: np.ndarray
    gamma: float
    stiff_error: bool

    @cached_property
    def c(self):
        """Nodes: the row sums of ``A Gamma`` with ``Gamma = (I/gamma - C)^-1``."""
        return self.A @ np.linalg.solve(np.eye(len(self.m)) / self.gamma - self.C, np.ones(len(self.m)))


def _lower(rows, size):
    matrix = np.zeros((size, size))
    for i, row in enumerate(rows, start=1):
        matrix[i, : len(row)] = row
    return matrix


# Dormand & Prince's pair of order 8, errors of orders 5 and 3: Hairer, Norsett & Wanner, Solving ODEs I, II.5.
_DOP853_A = [
    [0.05260015195876773],
    [0.0197250569845379, 0.0591751709536137],
    [0.02958758547680685, 0, 0.08876275643042054],
    [0.2413651341592667, 0, -0.8845494793282861, 0.924834003261792],
    [0.037037037037037035, 0, 0, 0.17082860872947386, 0.12546768756682242],
    [0.037109375, 0, 0, 0.17025221101954405, 0.06021653898045596, -0.017578125],
    [0.03709200011850479, 0, 0, 0.17038392571223998, 0.10726203044637328, -0.015319437748624402, 0.008273789163814023],
    [
        0.6241109587160757, 0, 0, -3.3608926294469414, -0.868219346841726, 27.59209969944671,
        20.154067550477894, -43.48988418106996,
    ],
    [
        0.47766253643826434, 0, 0, -2.4881146199716677, -0.590290826836843, 21.230051448181193,
        15.279233632882423, -33.28821096898486, -0.020331201708508627,
    ],
    [
        -0.9371424300859873, 0, 0, 5.186372428844064, 1.0914373489967295, -8.149787010746927,
        -18.52006565999696, 22.739487099350505, 2.4936055526796523, -3.0467644718982196,
    ],
    [
        2.273310147516538, 0, 0, -10.53449546673725, -2.0008720582248625, -17.9589318631188,
        27.94888452941996, -2.8589982771350235, -8.87285693353063, 12.360567175794303, 0.6433927460157636,
    ],
]
DOP853 = RungeKutta(
    order=8,
    A=_lower(_DOP853_A, 12),
    b=np.array([
        0.054293734116568765, 0, 0, 0, 0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
        0.3111643669578199, -0.1521609496625161, 0.20136540080403034, 0.04471061572777259,
    ]),
    c=np.array([
        0, 0.05260015195876773, 0.0789002279381516, 0.1183503419072274, 0.2816496580927726,
        0.3333333333333333, 0.25, 0.3076923076923077, 0.6512820512820513, 0.6, 0.8571428571428571, 1.0,
    ]),
    error_high=np.array([
        0.01312004499419488, 0, 0, 0, 0, -1.2251564463762044, -0.4957589496572502, 1.6643771824549864,
        -0.35032884874997366, 0.3341791187130175, 0.08192320648511571, -0.022355307863886294, 0,
    ]),
    error_low=np.array([
        -0.18980075407240762, 0, 0, 0, 0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
        -0.4226823213237919, -0.1521609496625161, 0.20136540080403034, 0.02265179219836082, 0,
    ]),
)

# Rodas5P, order 5(4), stiffly accurate; needs the exact Jacobian: Steinebach (2023), BIT Numer. Math. 63, 27.
_RODAS5P_A = [
    [3.0],
    [2.849394379747939, 0.45842242204463923],
    [-6.954028509809101, 2.489845061869568, -10.358996098473584],
    [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
    [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946],
    [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946, 1.0],
    [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946, 1.0, 1.0],
]
_RODAS5P_C = [
    [-14.155112264123755],
    [-17.97296035885952, -2.859693295451294],
    [147.12150275711716, -1.41221402718213, 71.68940251302358],
    [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
    [24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471],
    [
        30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
        -28.087943162872662,
    ],
    [
        37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
        -54.66780262877968, -9.48861652309627,
    ],
]
RODAS5P = Rosenbrock(
    order=5,
    A=_lower(_RODAS5P_A, 8),
    C=_lower(_RODAS5P_C, 8),
    m=np.array([
        -7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256,
        0.030198172008377946, 1.0, 1.0, 1.0,
    ]),
    e=np.array([0, 0, 0, 0, 0, 0, 0, 1.0]),
    gamma=0.21193756319429014,
    stiff_error=True,
)

# Rodas, order 4(3), stiffly accurate; needs the exact Jacobian: Hairer & Wanner, Solving ODEs II, IV.7 (the first of the three
# sets of coefficients of their code RODAS).  As published they meet the conditions of order to 1e-9: for loose tolerances only.
_RODAS4_A = [
    [1.544],
    [0.9466785280815826, 0.2557011698983284],
    [3.314825187068521, 2.896124015972201, 0.9986419139977817],
    [1.221224509226641, 6.019134481288629, 12.53708333932087, -0.687886036105895],
    [1.221224509226641, 6.019134481288629, 12.53708333932087, -0.687886036105895, 1.0],
]
_RODAS4_C = [
    [-5.6688],
    [-2.430093356833875, -0.2063599157091915],
    [-0.1073529058151375, -9.594562251023355, -20.47028614809616],
    [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.7089089320616],
    [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054],
]
RODAS4 = Rosenbrock(
    order=4,
    A=_lower(_RODAS4_A, 6),
    C=_lower(_RODAS4_C, 6),
    m=np.array([1.221224509226641, 6.019134481288629, 12.53708333932087, -0.687886036105895, 1.0, 1.0]),
    e=np.array([0, 0, 0, 0, 0, 1.0]),
    gamma=0.25,
    stiff_error=True,
)

# Rodas3, order 3(2), stiffly accurate, three evaluations: its second stage is at the start.  Sandu, Verwer, Blom, Spee,
# Carmichael & Potra (1997), Atmospheric Environment 31, 3459.
RODAS3 = Rosenbrock(
    order=3,
    A=_lower([[0.0], [2.0], [2.0, 0.0, 1.0]], 4),
    C=_lower([[4.0], [1.0, -1.0], [1.0, -1.0, -8.0 / 3.0]], 4),
    m=np.array([2.0, 0.0, 1.0, 1.0]),
    e=np.array([0, 0, 0, 1.0]),
    gamma=0.5,
    stiff_error=True,
)

# W-method of order 4 for *any* Jacobian, R(inf) = 0, stable within 89 degrees: Rahunanthan & Stanescu (2010), J. Comput.
# Appl. Math. 233, 3031.
# It was published without an error estimate.  The eight conditions of order 3 for W-methods leave its six weights one
# degree of freedom, a vector n: every b + theta n is of order 3 for any Jacobian, and theta n (here theta = 5, |n| = 1,
# which makes it as strict as the estimate of Rodas4) is the error weight.
_W6_A = [
    [0.5812383407115008],
    [0.903962441371467, 1.861519155534501],
    [2.076579719675, 0.1884255381414796, 1.870158967491032],
    [4.435550638484312, 5.457181798610189, 4.61635078806893, 3.118111952402361],
    [10.79170169848326, -10.05691522584131, 14.99564485428419, 5.274339954390943, 1.42973087126119],
]
_W6_C = [
    [-2.661294105131369],
    [-3.128450202373838, 0],
    [-6.920335474535658, -1.202675288266817, -9.73356181141362],
    [-28.09530629102695, 20.37126295479377, -41.04375275302869, -19.66373175620895],
    [9.7998186780974, 11.93579288660318, 3.673874929013201, 14.8078285410955, 0.831858399869068],
]
W6 = Rosenbrock(
    order=4,
    A=_lower(_W6_A, 6),
    C=_lower(_W6_C, 6),
    m=np.array([6.456217074653235, -4.853141317768053, 9.76531833406926, 2.081084177278723, 0.6603936866352417, 0.6]),
    e=np.array([
        0.38547433031130174, 1.662088216814701, 2.4493099191720735, 0.9157656793127739, 1.6252904823239789,
        1.2419874049296569,
    ]),
    gamma=0.25,
    stiff_error=False,
)
