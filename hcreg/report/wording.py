"""The words of a regression run's page that do not depend on its numbers: captions and glossary."""

FIGURES = {
    "actual_against_predicted": (
        "Predicted against true head circumference (HC), one point an image.",
        "On the diagonal the prediction is right. Look for points far off it, and for a cloud flatter "
        "than it: that network drifts towards the middle and serves small and large heads badly.",
    ),
    "residuals": (
        "Error against true HC, error against predicted HC, and how the errors are distributed.",
        "A good cloud is level around zero. A slope means large heads are measured too small or small "
        "ones too large; a funnel means that the error grows with size.",
    ),
    "bland_altman": (
        "Bland-Altman plot: the difference of predicted and true HC against their mean.",
        "About 95 of 100 differences lie between the dashed limits. Ask whether limits that wide would "
        "change a decision, and whether the bias line is off zero; the bands are 95 % confidence "
        "intervals.",
    ),
    "error_by_trimester": (
        "Absolute errors by trimester: points are images, box the middle half, diamond the mean.",
        "Compare the mean with that of the constant guess below each box: a trimester with few training "
        "images often does worse.",
    ),
    "fold_spread": (
        "Absolute errors by cross-validation fold (box: middle half, diamond: mean); dashed: mean over all.",
        "Folds that differ little mean that the result does not hang on which images were left out.",
    ),
    "head_circumference_distribution": (
        "How head circumference is distributed in each group of images.",
        "The outlines should cover the same range: a network measures badly what it has not been shown.",
    ),
    "history_curves": (
        "Loss and mean absolute error during training, on training and validation images.",
        "The two curves should fall together. Validation rising while training falls is overfitting; the "
        "weights of the best epoch, the dotted line, are the ones used.",
    ),
    "worst_cases": (
        "The images with the largest errors, the worst first.",
        "Look for a cause they share: a head cut off by the border, a faint skull, an odd scale. Solid: "
        "annotated ellipse; dashed: the same ellipse scaled to the predicted HC, to compare sizes only.",
    ),
    "best_cases": (
        "The images with the smallest errors, the best first.",
        "What they have that the worst cases lack tells when the network can be relied on.",
    ),
}
ERROR_FIGURES = (
    "actual_against_predicted",
    "residuals",
    "bland_altman",
    "error_by_trimester",
    "fold_spread",
)

GLOSSARY = {
    "HC, head circumference": (
        "The length of the outline of the fetal skull, taken as an ellipse, in mm. The true value comes from "
        "the annotation of a trained reader, or, in synthetic images, from the ellipse that was drawn."
    ),
    "px": (
        "Pixels of the original image. A length in px times the pixel size (mm) is the length in mm; "
        "pixel sizes differ between images, so errors in px and in mm rank images differently."
    ),
    "MAE, mean absolute error": (
        "The mean size of the error, whatever its sign. 0 is perfect. The SD beside it says how much the "
        "error differs from image to image."
    ),
    "PMAE, percentage mean absolute error": (
        "The error of each image as a percentage of its true HC, averaged over the images."
    ),
    "Bias": (
        "The mean of predicted minus true HC. Positive: the network measures too large on average. A bias"
        " near zero can hide large errors of both signs."
    ),
    "95th percentile": ("95 of 100 images have an error below it: what a bad case is like."),
    "RMSE, root mean squared error": ("Like the MAE, but large errors weigh more."),
    "R²": (
        "The share of the differences in HC between images that the predictions account for: 1 is "
        "perfect, 0 is no better than always saying the mean of these images, and it can be negative."
    ),
    "Constant guess": (
        "The same value for every image: the median of the training images. A network that has learned "
        "anything beats it clearly."
    ),
    "Bland-Altman limits of agreement": (
        "Bias ± 1.96 SD of the differences: about 95 of 100 differences between the network and the "
        "annotation lie between them."
    ),
    "Conformal interval": (
        "A range around a prediction, as wide as the errors on images set aside for calibration demand. "
        "It contains the true HC as often as promised if new images are like those."
    ),
    "SD, standard deviation": "How much single values differ from their mean.",
    "Fold": (
        "In cross-validation the images are divided into folds; each fold in turn is predicted by a network "
        "trained on the others, so that every image is predicted once."
    ),
    "Examination": (
        "One visit of one patient, with one or more images. All images of an examination stay in one part"
        " of the data, or the network would be tested on heads it has seen."
    ),
}
